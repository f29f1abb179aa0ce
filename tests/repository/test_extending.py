"""Each thing that people add to miniml is added in one place, from outside, by public names, and works to the end."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from miniml import extensions
from miniml.errors import GateError, InputError
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.report import write_report
from miniml.extensions import (
    Answers,
    Champion,
    Engine,
    EngineKind,
    EvaluationResult,
    Fetched,
    GateSettings,
    Logits,
    Metric,
    Ruling,
    ServedModel,
    Source,
    TokenIds,
    register_engine,
    register_metric,
    register_rule,
    register_source,
)
from miniml.gate.rules import RULES, judge, require_approved
from miniml.metrics import METRICS
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.engines import ENGINES
from miniml.registry import Registry
from miniml.search.picking import pick
from miniml.settings.search import SearchSettings
from miniml.settings.training import TrainingSettings
from miniml.sources.address import SOURCES, locate, short_name
from miniml.task_registry import TASKS
from miniml.training.fine_tune import fine_tune
from serving.engine_choice import choose
from tests import patience, tiny
from tests.command import ROOT, pipeline
from tests.conftest import TRAINING


@contextmanager
def removed_later(registry: Registry[Any], *names: str) -> Iterator[None]:
    with ExitStack() as stack:
        for name in names:
            stack.callback(registry.remove, name)
        yield


def test_a_metric_is_one_call_and_stands_in_the_figures_the_report_and_the_gate(
    model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    register_metric(
        Metric(
            "kappa",
            "Cohen's kappa",
            "0 is chance",
            limits=(-1.0, 1.0),
            is_tile=True,
            score=lambda answers, weights: cohen_kappa_score(
                answers.references, answers.predicted, sample_weight=weights
            ),
        )
    )
    with removed_later(METRICS, "kappa"):
        result = evaluate_model(model_dir, dataset_dir)
        write_report(result, manifest.read(model_dir), [], tmp_path / "report.html")

    result.save(tmp_path / "metrics.json")
    stored = json.loads((tmp_path / "metrics.json").read_text())
    kappa = result.figures["kappa"]
    assert stored["figures"]["kappa"]["value"] == kappa.value == result.scalars()["kappa"]
    # Of two classes that are equally frequent it is how much better than half the accuracy is.
    assert kappa.value == pytest.approx(2 * result.accuracy.value - 1, abs=0.05)
    assert -1 <= kappa.low <= kappa.value <= kappa.high <= 1
    assert result.baseline["kappa"].value == result.scalars()["baseline_kappa"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("Cohen&#39;s kappa") == 2, "a tile, and a row of the table"
    assert "0 is chance" in page

    for least, passed in ((kappa.value, True), (kappa.value + 0.01, False)):
        verdict = judge(result, GateSettings(min_metrics=f"kappa={least}"))
        [ruling] = [one for one in verdict.rulings if one.rule == "kappa"]
        assert ruling.passed is passed
        assert f"kappa {kappa.value:.4f} on {result.test_rows} test rows" in ruling.reason


def test_a_metric_of_which_less_is_better_is_no_least_value_for_the_gate(
    model_dir: Path, dataset_dir: Path
) -> None:
    register_metric(Metric("misses", "Misses", more_is_better=False, score=lambda answers, weights: 0.25))
    with removed_later(METRICS, "misses"):
        result = evaluate_model(model_dir, dataset_dir)
        with pytest.raises(InputError, match="less is better"):
            judge(result, GateSettings(min_metrics="misses=0.1"))
    assert result.figures["misses"].value == 0.25


def _fails(answers: Answers, weights: object) -> float:
    raise RuntimeError("it is broken")


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (_fails, r"'mine' cannot be computed: tests.*_fails raised RuntimeError: it is broken"),
        (lambda answers, weights: None, "'mine' is no number: .* returned None, of type NoneType"),
        (lambda answers, weights: True, "'mine' is no number: .* returned True, of type bool"),
        (lambda answers, weights: np.array([0.5]), r"'mine' is no number: .* returned array\(\[0.5\]\)"),
        (lambda answers, weights: 7.5, "'mine' is 7.5, outside of its limits 0 to 1.*limits="),
    ],
)
def test_a_metric_that_gives_no_number_is_named_in_evaluation_and_in_training(
    score: Any, message: str, model_dir: Path, dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    register_metric(Metric("mine", "Mine", score=score))
    quick = {**TRAINING, "iterations": 2, "linear_probe": False, "checkpoints": "none"}
    with removed_later(METRICS, "mine"):
        with pytest.raises(InputError, match=message):
            evaluate_model(model_dir, dataset_dir)
        with pytest.raises(InputError, match=message):
            fine_tune(dataset_dir, tmp_path / "model", TrainingSettings(model_id=str(encoder), **quick))


def test_a_training_says_that_its_metric_was_never_defined(
    dataset_dir: Path, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_metric(Metric("undefined", "Undefined", score=lambda answers, weights: math.nan))
    quick = {**TRAINING, "iterations": 4, "linear_probe": False, "checkpoints": "none"}
    settings = TrainingSettings(model_id=str(encoder), best_by="undefined", **quick)
    with removed_later(METRICS, "undefined"):
        result = fine_tune(dataset_dir, tmp_path / "model", settings)
    assert result.metrics["kept_step"] == 4
    assert (
        "validation undefined was undefined in every evaluation: the last step's weights are kept"
        in caplog.text
    )


@pytest.mark.parametrize("name", ["", "my metric", "Kappa", "a/b", "κ", "<b>x</b>", "a,b=c"])
def test_a_metrics_name_is_one_that_the_gate_can_be_given(name: str) -> None:
    with pytest.raises(ValueError, match="lower case with underscores"):
        register_metric(Metric(name, "Mine", score=lambda answers, weights: 0.5))


def test_a_metric_picks_the_weights_of_a_training_and_the_winner_of_a_search(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    """It counts how often it was asked, so that by it each training's first evaluation is the best."""
    asked = itertools.count()
    register_metric(
        Metric(
            "turn",
            "Turn",
            limits=(0, math.inf),
            more_is_better=False,
            score=lambda answers, weights: next(asked),
        )
    )
    register_metric(Metric("undefined", "Undefined", score=lambda answers, weights: math.nan))
    folders = [tmp_path / "first", tmp_path / "second"]
    quick = {**TRAINING, "iterations": 4, "linear_probe": False, "evaluations": 2}
    with removed_later(METRICS, "turn", "undefined"):
        for seed, folder in enumerate(folders, 1):
            settings = TrainingSettings(model_id=str(encoder), best_by="turn", seed=seed, **quick)
            result = fine_tune(dataset_dir, folder, settings)
            assert (result.metrics["kept_step"], result.metrics["steps"]) == (2, 4)
            assert "validation_undefined" not in result.metrics
        search = SearchSettings(space='{"seed": [1, 2]}', sampling="grid", pick_by="turn")
        picked = pick(folders[::-1], search, tmp_path / "winner", tmp_path / "search.html")
        assert (picked.winner.number, picked.picked_by) == (1, "turn")
        assert picked.winner.metrics["validation_turn"] == 0
        undefined = replace(settings, best_by="undefined")
        assert fine_tune(dataset_dir, tmp_path / "last", undefined).metrics["kept_step"] == 4


def test_a_metric_that_a_training_cannot_be_picked_by_is_refused_with_those_that_there_are(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    register_metric(Metric("far", "Far", tasks=("regression",), score=lambda answers, weights: 0.5))
    with removed_later(METRICS, "far"):
        with pytest.raises(
            InputError, match=r"best_by 'near' .* Use one of accuracy, macro_f1, loss, far, last"
        ):
            TrainingSettings(best_by="near")
        with pytest.raises(InputError, match=r"pick_by 'near' .* Use one of accuracy, macro_f1, loss, far\."):
            SearchSettings(pick_by="near")
        wrong_task = TrainingSettings(model_id=str(encoder), best_by="far")
        with pytest.raises(
            InputError, match=r"no metric of the task single_label_classification\. Use one of acc"
        ):
            fine_tune(dataset_dir, tmp_path / "model", wrong_task)
    with pytest.raises(InputError, match="best_by 'far' is not known"):
        TrainingSettings(best_by="far")
    with pytest.raises(ValueError, match="'loss' is another choice of best_by"):
        register_metric(Metric("loss", "Loss", score=lambda answers, weights: 0.5))


def test_a_metric_of_an_installed_package_is_a_choice_of_the_command_line(tmp_path: Path) -> None:
    _install(tmp_path, "miniml.metrics", "turn_metric", _TURN_METRIC)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    shown = " ".join(pipeline("run", "--help", PYTHONPATH=paths).out.split())
    assert "One of accuracy, macro_f1, loss, turn, last." in shown


_TURN_METRIC = """
from miniml.extensions import Metric, register_metric

register_metric(Metric("turn", "Turn", score=lambda answers, weights: 0.5))
"""


def test_a_gate_rule_is_one_function_and_can_reject_a_model(model_dir: Path, dataset_dir: Path) -> None:
    @register_rule
    def fast_enough(result: EvaluationResult, settings: GateSettings, champion: Champion) -> Iterator[Ruling]:
        speed, least = result.texts_per_second, 1e9
        reason = f"{speed:.0f} texts/s are below {least:.0f}"
        yield Ruling("fast enough", f"{speed:.0f}", f"{least:.0f}", speed >= least, reason)

    result = evaluate_model(model_dir, dataset_dir)
    digest = result.model_digest
    with removed_later(RULES, "fast_enough"):
        verdict = judge(result, GateSettings())
        assert [one.rule for one in verdict.rulings if not one.passed] == ["fast enough"]
        assert "| fast enough |" in verdict.markdown()
        with pytest.raises(GateError, match="texts/s are below"):
            require_approved(True, digest, result, digest, GateSettings())
    assert judge(result, GateSettings()).approved


class ShelfSource(Source):
    """What lies on a shelf, a folder that the environment names, as any remote store might be."""

    scheme = "shelf://"

    def fetch(self) -> Fetched:
        """Finds it on the shelf."""
        return Fetched(Path(os.environ["SHELF"]) / self.text.removeprefix(self.scheme), self.text)


def test_a_source_scheme_is_one_class_and_gives_a_run_its_dataset_and_its_model(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's stages are processes of their own, and find the scheme by the entry point of an installed package."""
    shelf, site = tmp_path / "shelf", tmp_path / "site"
    shelf.mkdir()
    tiny.write_reviews(shelf / "reviews.csv", rows=120)
    shutil.copytree(encoder, shelf / "encoder")
    _install(site, "miniml.sources", "shelf_source", _SHELF_SOURCE)
    monkeypatch.setenv("SHELF", str(shelf))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))

    done = pipeline(
        *("run", "--dataset-id", "shelf://reviews.csv", "--model-id", "shelf://encoder"),
        *("--label-names", "bad,good", "--iterations=60", "--batch-size=16", "--learning-rate", "1e-2"),
        *("--max-length=32", f"--outputs={tmp_path / 'out'}"),
    )
    assert done.status == 0, done.err
    model = manifest.read((tmp_path / "out" / "latest" / "model").resolve())
    assert model.data["source"] == "shelf://reviews.csv"
    assert model.arguments["training"]["model_id"] == "shelf://encoder"


_SHELF_SOURCE = """
import os
from pathlib import Path

from miniml.extensions import Fetched, Source, register_source


@register_source
class ShelfSource(Source):
    scheme = "shelf://"

    def fetch(self):
        return Fetched(Path(os.environ["SHELF"]) / self.text.removeprefix(self.scheme), self.text)
"""


def _install(site: Path, group: str, module: str, text: str) -> None:
    """Puts a package there as an installer would: its module, and metadata with an entry point."""
    metadata = site / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / f"{module}.py").write_text(text)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{module} = {module}\n")


_MOOD_TASK = """
from miniml.extensions import register_task
from miniml.tasks.single_label import SingleLabel

@register_task
class Mood(SingleLabel):
    name = "mood"
    one, many = "mood", "moods"
"""


def test_a_task_of_an_installed_package_is_known_to_every_process(tmp_path: Path) -> None:
    _install(tmp_path, "miniml.tasks", "mood_task", _MOOD_TASK)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    shown = " ".join(pipeline("run", "--help", PYTHONPATH=paths).out.split())
    assert "multi_label_classification, regression, mood." in shown


def test_a_source_scheme_is_known_wherever_a_source_is_asked_what_it_is() -> None:
    with pytest.raises(InputError, match=r"cannot read from shelf://"):
        locate("dataset_id", "shelf://a.csv")
    register_source(ShelfSource)
    with removed_later(SOURCES, "shelf://"):
        source = locate("dataset_id", "shelf://team/reviews.csv?v=1")
        assert short_name(source.text) == "reviews.csv"
        assert source.reachable_from_pods and source.mount() is None and source.hub_name == ""
        # No cache may answer for what nobody can say anything of.
        assert source.pin().state != source.pin().state
        with pytest.raises(InputError, match=r"shelf://<path>"):
            locate("dataset_id", "ftp://a.csv")


def test_a_scheme_that_is_taken_or_is_none_is_refused() -> None:
    class Mine(ShelfSource):
        scheme = "s3://"

    class Nameless(ShelfSource):
        scheme = ""

    with pytest.raises(ValueError, match="has a 's3://' already"):
        register_source(Mine)
    with pytest.raises(ValueError, match="must end in '://'"):
        register_source(Nameless)


class OneByOne:
    """Runs the reference on one text after the other: slow, and right."""

    name = "one-by-one"

    def __init__(self, served: ServedModel) -> None:
        self._reference = served.reference

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        rows = zip(token_ids, attention_mask, strict=True)
        return np.concatenate([self._reference(ids[None], mask[None]) for ids, mask in rows])


def test_an_engine_is_one_class_and_is_tried_and_used_by_the_predictor(model_dir: Path) -> None:
    register_engine("one-by-one", EngineKind(OneByOne))
    register_engine("wrong", EngineKind(Wrong))
    register_engine("elsewhere", EngineKind(OneByOne, can_run=lambda served: False))
    classifier = Classifier.load(model_dir)
    with removed_later(ENGINES, "one-by-one", "wrong", "elsewhere"):
        found = choose(classifier, model_dir, "one-by-one", threads=1)
        assert found.classifier.engine.name == "one-by-one"
        text = [tiny.review(1, 7)]
        expected = classifier.predict_probabilities(text)
        assert found.classifier.predict_probabilities(text) == pytest.approx(expected, abs=1e-6)
        with pytest.raises(InputError, match="engine 'wrong' differs from torch-fp32"):
            choose(classifier, model_dir, "wrong", threads=1)
        with pytest.raises(InputError, match="'elsewhere' is not to be had here"):
            choose(classifier, model_dir, "elsewhere", threads=1)


def test_an_engine_says_that_it_runs_batches_concurrently_and_does_so(model_dir: Path) -> None:
    """Each of its streams waits for the other one inside its first batch, which only concurrent ones can do."""
    both_run = threading.Barrier(2)

    class Meeting(OneByOne):
        def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
            both_run.wait(patience.SECONDS)
            return super().__call__(token_ids, attention_mask)

    def streams(served: ServedModel, count: int) -> list[Engine]:
        asked.append((served.threads, count))
        return [Meeting(served) for _ in range(count)]

    asked: list[tuple[int, int]] = []
    register_engine("one-by-one", EngineKind(OneByOne, build_streams=streams))
    classifier = Classifier.load(model_dir)
    with removed_later(ENGINES, "one-by-one"):
        single = choose(classifier, model_dir, "one-by-one", threads=1)
        assert single.streams == [single.classifier] and asked == []
        both_run = threading.Barrier(1)  # The streams are warmed one after the other.
        found = choose(classifier, model_dir, "one-by-one", threads=2)
        assert asked == [(2, 2)]
    both_run = threading.Barrier(2)
    text = [tiny.review(1, 7)]
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda stream: stream.predict_probabilities(text), found.streams))
    for probabilities in answers:
        assert probabilities == pytest.approx(classifier.predict_probabilities(text), abs=1e-6)


def test_the_guides_examples_register_what_they_say() -> None:
    page = (ROOT / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    script = "".join(blocks) + (
        "from miniml import metrics, task_registry\n"
        "from miniml.gate.rules import RULES\n"
        "from miniml.model.engines import ENGINES\n"
        "from miniml.sources.address import SOURCES\n"
        "kinds = (metrics.METRICS, RULES, SOURCES, task_registry.TASKS, ENGINES)\n"
        "print([list(kind.items())[-1][0] for kind in kinds], ENGINES['two-by-two'].build_streams is streams)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    added = ["kappa", "fast_enough", "shelf://", "mood", "two-by-two"]
    assert done.stdout == f"{added} True\n", done.stderr
    for group in re.findall(r"`(miniml\.\w+)`", page.partition("The groups are")[2].partition("One line")[0]):
        assert group in {kind._group for kind in (METRICS, RULES, SOURCES, TASKS, ENGINES)}


def test_all_that_is_added_is_imported_from_one_module_without_a_heavy_library() -> None:
    assert all(getattr(extensions, name) for name in extensions.__all__)
    assert extensions._HOMES.keys() == set(extensions.__all__)
    with pytest.raises(AttributeError, match="no attribute 'register_metrics'"):
        extensions.register_metrics  # noqa: B018
    script = (
        "import sys; from miniml.extensions import "
        "Metric, Source, Task, register_metric, register_rule, register_source, register_task; "
        "print(sorted({'torch', 'transformers', 'datasets', 'kserve', 'kfp', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


class Wrong(OneByOne):
    """Answers the opposite, as a faulty conversion may."""

    name = "wrong"

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        return -super().__call__(token_ids, attention_mask)
