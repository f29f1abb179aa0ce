"""Names that were made to fool the gate: none opens it, and none makes an approved model be left undeployed in silence.

A few dozen strings go through real runs of the compiled gate and deploy here; MINIML_HOSTILE_STRINGS=1000 sends that
many, in some minutes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import kfp.local
import pytest
import yaml
from kfp import components

from miniml.champion.record import Champion
from miniml.errors import InputError
from miniml.escaping import quoted, without_placeholders
from miniml.evaluation.result import ClassScores, Estimate, Slice
from miniml.gate.rules import judge
from miniml.model import manifest
from miniml.pipeline.arguments import check_values, defaults
from miniml.pipeline.compiled import TEXT_CLASSIFICATION, CompiledPipeline
from miniml.settings.gate import GateSettings
from tests import tiny
from tests.command import ROOT
from tests.gate.test_gate import RESULT
from tests.hostile import PAYLOADS, strings
from tests.hostile_pipeline import judged_twice

DEFAULTS = defaults(CompiledPipeline.named(TEXT_CLASSIFICATION))
COMPILED = ROOT / "pipelines" / "compiled"
NAMES = ("dataset_id", "text_column", "label_column", "label_names", "row_filter", "model_id")
"""The arguments that may be any string; the others have a form of their own, and are refused without it."""
AT_ONCE = 10
THOUSAND = strings(1000)


def is_plain(name: str) -> bool:
    """Whether the pipeline takes it for an argument at all."""
    try:
        check_values({**DEFAULTS, "text_column": name})
    except InputError:
        return False
    return True


def chunks(number: int) -> Iterator[list[str]]:
    for start in range(0, number, AT_ONCE):
        yield THOUSAND[start : start + AT_ONCE]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(tmp_path_factory.mktemp("hostile") / "model")


def write_evaluation(folder: Path, model: Path, names: list[str]) -> None:
    """An evaluation whose labels and slices have these names."""
    folder.mkdir(exist_ok=True)
    if not (folder / "model").exists():
        (folder / "model").symlink_to(model)
    # JSON in a file holds no half characters.
    printable = [name.encode("utf-8", "replace").decode() for name in names]
    replace(
        RESULT,
        model_digest=manifest.read(model).digest,
        classes=[ClassScores(name, 0.9, 0.9, 0.9, 100) for name in printable],
        slices=[
            Slice(column, value, 100, Estimate(0.6 + rank / 100, 0.5, 0.8))
            for rank, (column, value) in enumerate(itertools.pairwise([*printable, printable[0]]))
        ],
    ).save(folder / "metrics")
    Champion(absent="Nothing is served as models/stars").save(folder / "champion")
    (folder / "names.json").write_text(json.dumps(printable))


# Our images are not named after Python; that a subprocess ignores them is what is wanted here.
@pytest.mark.filterwarnings("ignore:You may be attemping:RuntimeWarning")
@pytest.mark.timeout(3600)
def test_none_opens_the_gate_or_hides_an_approval_in_real_runs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = int(os.environ.get("MINIML_HOSTILE_STRINGS", "60"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for run, names in enumerate(chunks(number)):
        write_evaluation(tmp_path / "given", model, names)
        root = tmp_path / f"run-{run}"
        kfp.local.init(kfp.local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        plain = [name for name in names if is_plain(name)] or ["a"]
        arguments = dict(zip("abcdefghij", itertools.cycle(plain), strict=False))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            judged_twice(folder=str(tmp_path / "given"), **arguments)
        answers = {
            path.parent.name: json.loads(path.read_text())["parameterValues"]["Output"]
            for path in root.glob("*/gate*/executor_output.json")
        }
        assert answers == {"gate": False, "gate-2": True}, names
        assert [path.parent.name for path in root.glob("*/deploy*/inference_service")] == ["deploy-2"], names
        assert "pwned" not in {path.name for path in Path.cwd().iterdir()}


@pytest.mark.filterwarnings("ignore:You may be attemping:RuntimeWarning")
def test_labels_reach_later_stages_without_placeholders(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [payload for payload in PAYLOADS if payload.startswith("{{")]
    source, column = tmp_path / "reviews.csv", "' or True or \""
    with source.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([column, "label"])
        table.writerows([f"text {row}", labels[row % len(labels)]] for row in range(12 * len(labels)))
    transform = components.load_component_from_file(str(COMPILED / "components" / "transform.yaml"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kfp.local.init(kfp.local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"))
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = transform(dataset_id=str(source), text_column=column, model_id=str(encoder)).outputs[
            "dataset"
        ]
    assert len(dataset.metadata["labels"]) == len(labels)
    assert "{{" not in str(dataset.metadata)


def test_no_name_changes_a_verdict_or_leaves_its_place_in_it() -> None:
    def verdict(name: str, settings: GateSettings) -> tuple[bool, str]:
        part = Slice(name, name, 100, Estimate(0.6, 0.5, 0.7))
        classes = [ClassScores(name, 0.9, 0.9, 0.9, 100)]
        found = judge(replace(RESULT, slices=[part], classes=classes), settings)
        return found.approved, found.markdown()

    for floor, approved in ((0.5, True), (0.7, False)):
        settings = GateSettings(min_slice_accuracy=floor)
        shape = _shape(verdict("length", settings)[1])
        for name in THOUSAND:
            found, markdown = verdict(name, settings)
            assert found is approved
            assert _shape(markdown) == shape, name
            assert "{{" not in markdown


def _shape(markdown: str) -> list[tuple[int, bool]]:
    """Of each line, the cells, and whether it is emphasised or a heading; there is no HTML and no image in any."""
    assert not set("<>`[]\x00\r") & set(markdown)
    return [(line.count("|"), line.startswith("#")) for line in markdown.split("\n")]


def test_no_metric_and_no_service_can_be_named_so() -> None:
    for name in THOUSAND:
        with contextlib.suppress(InputError):
            judge(RESULT, GateSettings(1.0, min_metrics=f"{name}=0"))
            assert not name.strip(" ,") or "," in name
        arguments = {**DEFAULTS, "service_name": name}
        with contextlib.suppress(InputError):
            check_values(arguments)
            assert name.replace("-", "").isalnum()
            assert name.isascii()


def test_what_kfp_would_take_for_its_own_is_refused_before_the_run_or_taken_apart() -> None:
    for name in THOUSAND:
        if is_plain(name):
            assert "{{" not in name
            assert "\0" not in name
            name.encode()
        assert "{{" not in str(without_placeholders({name: [name]}))
    for argument in NAMES:
        arguments = {
            **DEFAULTS,
            argument: "{{$.inputs.parameters['approved']}}",
        }
        with pytest.raises(InputError, match=f"{argument} .* takes for a placeholder"):
            check_values(arguments)


def test_a_name_reads_as_itself_where_it_is_harmless() -> None:
    assert quoted("gut & schön: 5/5, it's ok") == '"gut & schön: 5/5, it\'s ok"'
    assert quoted("a\nb") == '"a\\x0ab"'
    assert quoted("\u202ex") == '"\\u202ex"'
    assert len(quoted("a" * 1000)) == 62


def test_the_compiled_pipeline_branches_on_the_gates_bool_alone() -> None:
    spec = next(yaml.safe_load_all((COMPILED / "text_classification.yaml").read_text()))
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    tasks = {name: task for dag in dags for name, task in dag["tasks"].items()}
    conditions = {
        name: task["triggerPolicy"]["condition"]
        for name, task in tasks.items()
        if "condition" in task.get("triggerPolicy", {})
    }
    (branch,) = conditions
    # Compared with a constant, and nothing else is looked at.
    channel = "pipelinechannel--gate-Output"
    assert conditions[branch] == f"inputs.parameter_values['{channel}'] == true"
    given = tasks[branch]["inputs"]["parameters"][channel]
    assert given == {"taskOutputParameter": {"outputParameterKey": "Output", "producerTask": "gate"}}
    output = spec["components"]["comp-gate"]["outputDefinitions"]["parameters"]["Output"]
    assert output["parameterType"] == "BOOLEAN"
    # No task waits for a string otherwise: there is no loop over anything.
    assert not any("parameterIterator" in task or "artifactIterator" in task for task in tasks.values())
    assert "deploy" in spec["components"][tasks[branch]["componentRef"]["name"]]["dag"]["tasks"]
