"""A search as a person runs it: every trial is trained, one wins on validation, and the test is asked once."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from miniml.evaluation.result import EvaluationResult
from miniml.model import manifest
from miniml.pipeline.arguments import check_values, defaults
from miniml.pipeline.compiled import HYPERPARAMETER_SEARCH, CompiledPipeline
from miniml.pipeline.presets import PRESETS
from tests.command import ROOT, Ended, pipeline
from tests.conftest import TRAINING

STAGES = ["preflight", "transform", "train", "pick", "compress", "evaluate", "gate", "deploy"]
SPACE = '{"learning_rate": [1e-6, 1e-2, 1e30], "frozen_layers": [0]}'
"""One that learns nothing, one that learns, and one that diverges."""


def search(*words: str | Path) -> Ended:
    return pipeline(*words, module="hyperparameter_search")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def job(reviews: Path, encoder: Path, outputs: Path) -> list[str]:
    """The words of a whole small search."""
    settings = {"dataset-id": reviews, "model-id": encoder, "label-names": "bad,good", "service-name": "food"}
    settings |= {name.replace("_", "-"): value for name, value in TRAINING.items()}
    settings |= {"space": SPACE, "trials": 3}
    return ["run", "--outputs", str(outputs), *(f"--{name}={value}" for name, value in settings.items())]


@pytest.fixture(scope="module")
def finished(job: list[str]) -> Ended:
    ended = search(*job, "--min-accuracy=0.9", "--ask=tasty food")
    assert ended.status == 0, ended.out + ended.err
    return ended


@pytest.fixture(scope="module")
def latest(finished: Ended, outputs: Path) -> Path:
    return (outputs / "latest").resolve()


@pytest.fixture(scope="module")
def trials(latest: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((latest / "search.json").read_text())["trials"]
    return found


def test_the_winner_is_the_best_on_validation(trials: list[dict[str, Any]]) -> None:
    assert sorted(trial["arguments"]["learning_rate"] for trial in trials) == [1e-6, 1e-2, 1e30]
    [winner] = [trial for trial in trials if trial["won"]]
    assert winner["arguments"] == {"learning_rate": 1e-2, "frozen_layers": 0}
    for trial in trials:
        figures = trial["metrics"]
        assert trial["failure"] or winner["metrics"]["validation_accuracy"] >= figures["validation_accuracy"]


def test_a_trial_that_diverges_is_a_result_and_ends_nothing(trials: list[dict[str, Any]]) -> None:
    [failed] = [trial for trial in trials if trial["failure"]]
    assert failed["arguments"]["learning_rate"] == 1e30
    assert "the training diverged" in failed["failure"]


def test_the_winners_model_goes_on_as_it_was_trained(latest: Path) -> None:
    signed = manifest.verify(latest / "model")
    assert signed.arguments["training"]["learning_rate"] == 1e-2
    trained = [path.parent for path in latest.glob("artifacts/*/*/train/model/miniml.json")]
    assert signed.digest in [manifest.verify(folder).digest for folder in trained]
    service = yaml.safe_load((latest / "inference_service.yaml").read_text())
    assert service["metadata"]["annotations"]["miniml/model-digest"] == signed.digest


def test_the_test_is_asked_once_and_of_the_winner(latest: Path) -> None:
    assert len(list(latest.glob("artifacts/**/evaluate/metrics"))) == 1
    result = EvaluationResult.read(latest / "metrics.json")
    assert (result.test_rows, result.model_digest) == (60, manifest.read(latest / "model").digest)
    # pick is not even given the data.
    spec = next(yaml.safe_load_all((ROOT / "pipelines/compiled/components/pick.yaml").read_text()))
    assert spec["components"]["comp-pick"]["inputDefinitions"]["artifacts"].keys() == {"models"}


def test_every_stage_and_every_trial_is_shown(finished: Ended, latest: Path) -> None:
    for number, stage in enumerate(STAGES, 1):
        assert f"[{number}/{len(STAGES)}] {stage}\n" in finished.out
    for turn in (2, 3):
        assert f"[3/8] train ({turn})\n" in finished.out
    for words in ("trial 3: learning_rate", "no model: the training diverged", "of 3: learning_rate 0.01"):
        assert words in finished.out
    assert "-> good" in finished.out
    assert "search_report.html" in finished.out
    assert "Traceback" not in finished.out + finished.err
    seconds = json.loads((latest / "summary.json").read_text())["seconds"]
    assert seconds.keys() == {*STAGES, "serve", "total"}
    page = (latest / "search_report.html").read_text()
    assert "trial 1 of 3" in page or "trial 2 of 3" in page or "trial 3 of 3" in page


def test_the_gate_judges_the_winner_and_the_cache_has_the_trials(
    job: list[str], latest: Path, outputs: Path
) -> None:
    again = search(*job, "--min-accuracy=0.9", "--min-metrics=mcc=2")
    assert again.status == 0, again.out + again.err
    for stage in ("train", "train (2)", "train (3)", "pick", "compress", "evaluate"):
        assert f"{stage} · unchanged, taken from the cache" in again.out
    assert "[8/8] deploy · skipped" in again.out
    summary = json.loads((outputs / "latest" / "summary.json").read_text())
    assert summary["verdict"] == "rejected"
    assert summary["seconds"]["train"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--space={}"], "names nothing to search"),
        (["--sampling=grid", '--space={"seed": {"low": 1, "high": 9}}'], "a range, of which a grid cannot try"),
        (['--space={"batch_size": [16, 0]}'], "(batch_size 0) cannot be trained: batch_size is 0; it must be 1 or"),
        (['--space={"model_id": ["./nowhere"]}'], "model_id './nowhere': no such file or folder"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_made_is_refused_before_any_stage(
    words: list[str], message: str, job: list[str], tmp_path: Path
) -> None:
    ended = search(*job, *words, f"--outputs={tmp_path}")
    assert ended.status == 1
    assert message in ended.err
    assert "[1/8]" not in ended.out
    assert "Traceback" not in ended.err


def test_the_readmes_command_searches_whatever_data_it_is_given(
    reviews: Path, encoder: Path, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^\.venv/bin/miniml search(.*?[^\\])\n", readme, re.M | re.S)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[words.index("--trials") + 1] == "8"
    smaller: list[str | Path] = [
        "--dataset-id",
        reviews,
        "--model-id",
        encoder,
        "--label-names=bad,good",
        "--row-filter=",
    ]
    smaller += ["--trials=2", "--iterations=2", "--max-length=32", "--min-accuracy=0", "--outputs", tmp_path]
    ended = search(*words, *smaller)
    assert ended.status == 0, ended.out + ended.err
    found = json.loads((tmp_path / "latest" / "search.json").read_text())
    assert [trial["arguments"].keys() for trial in found["trials"]] == 2 * [{"learning_rate", "batch_size"}]


def test_a_preset_is_offered_by_the_pipelines_that_have_its_arguments() -> None:
    assert "search-demo" in search("run", "--help").out
    shown = pipeline("run", "--help").out
    assert "{demo,long-reviews}" in shown
    check_values(
        {**defaults(CompiledPipeline.named(HYPERPARAMETER_SEARCH)), **PRESETS["search-demo"].arguments}
    )
