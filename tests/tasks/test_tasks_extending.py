"""A task is one folder: nothing outside asks which task it is, and a new one is added from outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from miniml import tasks
from miniml.data import preparation, prepared
from miniml.errors import InputError
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.report import write_report
from miniml.evaluation.result import EvaluationResult
from miniml.gate.rules import judge
from miniml.model.classifier import Classifier
from miniml.model.heads import Logits, Outputs
from miniml.model.history import read_history
from miniml.model.manifest import read
from miniml.settings.data import DataSettings
from miniml.settings.gate import GateSettings
from miniml.settings.training import TrainingSettings
from miniml.task_registry import TASKS
from miniml.tasks.single_label import SingleLabel, SingleLabelPrediction
from miniml.tasks.single_label.head import SingleLabelHead
from miniml.tasks.single_label.predictions import SingleLabelPredictions
from miniml.tasks.single_label.training import SingleLabelTarget
from miniml.training.fine_tune import fine_tune
from miniml.training.objective import Objective
from serving.inference import Inference
from tests import tiny
from tests.command import ROOT
from tests.conftest import TRAINING

# What follows up to `Stars` is all that a task of one's own needs.


class ExpectedSteps:
    """The steps by which an answer drawn from the probabilities would miss the class, of classes that have an order."""

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        steps = (torch.arange(logits.shape[1], device=logits.device) - labels[:, None]).abs()
        return (logits.float().softmax(dim=1) * steps).sum()


class StarsTarget(SingleLabelTarget):
    plain = ExpectedSteps()

    def objective(self, encoded: npt.NDArray[Any], settings: TrainingSettings) -> Objective:
        return ExpectedSteps()

    def validation_metrics(self, logits: Logits, encoded: npt.NDArray[Any]) -> dict[str, float]:
        near = np.abs(logits.argmax(axis=1) - encoded) <= 1
        return {**super().validation_metrics(logits, encoded), "off_by_one_accuracy": float(near.mean())}


@dataclass(frozen=True)
class StarsPredictions(SingleLabelPredictions):
    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        near: npt.NDArray[np.bool_] = np.abs(self.predicted - self.references) <= 1
        return near


@dataclass(frozen=True)
class StarsPrediction(SingleLabelPrediction):
    @property
    def stars(self) -> float:
        return float(self.label)


class StarsHead(SingleLabelHead):
    prediction_type = StarsPrediction

    def prediction(self, outputs: Outputs) -> StarsPrediction:
        return StarsPrediction(**asdict(super().prediction(outputs)))


class Stars(SingleLabel):
    """Gives a text one of several classes in an order, and may be off by one."""

    name = "stars"
    primary_metric = "off_by_one_accuracy"
    one, many = "star", "stars"
    head = StarsHead
    target = StarsTarget
    predictions = StarsPredictions


@pytest.fixture
def stars() -> Iterator[type[Stars]]:
    """The task, registered for as long as the test lasts: other tests know the three that there are."""
    yield tasks.register_task(Stars)
    TASKS.remove("stars")


def test_a_task_is_added_from_outside_and_goes_all_the_way(
    stars: type[Stars], encoder: Path, tmp_path: Path
) -> None:
    source = tiny.write_scored(tmp_path / "reviews.csv")
    asked = DataSettings(dataset_id=str(source), label_column="score", task="stars")
    summary = preparation.prepare(asked, tmp_path / "dataset")
    assert (summary.task, summary.labels[0], summary.labels[-1]) == ("stars", "3.5", "6.5")
    assert prepared.load(tmp_path / "dataset")[1] == summary

    fine_tune(tmp_path / "dataset", tmp_path / "model", TrainingSettings(model_id=str(encoder), **TRAINING))
    assert read(tmp_path / "model").metrics.keys() >= {"validation_loss", "validation_off_by_one_accuracy"}
    assert "classifier of 7 stars" in (tmp_path / "model" / "README.md").read_text()

    result = evaluate_model(tmp_path / "model", tmp_path / "dataset", predictions_path=tmp_path / "answers")
    predictions = Predictions.read(tmp_path / "answers")
    assert type(predictions) is StarsPredictions
    assert result.headline.value == pytest.approx(predictions.correct.mean())
    assert result.headline.value > result.figures["accuracy"].value
    assert result.baseline_comparison and result.baseline_comparison.measure == "off_by_one_accuracy"
    result.save(tmp_path / "metrics.json")
    assert EvaluationResult.read(tmp_path / "metrics.json") == result
    assert type(EvaluationResult.read(tmp_path / "metrics.json").task) is stars

    rulings = judge(result, GateSettings(min_accuracy=0.01)).rulings
    assert rulings[0].passed and "off_by_one_accuracy" in rulings[0].reason
    history = read_history(tmp_path / "model")
    write_report(result, read(tmp_path / "model"), history, tmp_path / "report.html")
    assert "off by one accuracy" in (tmp_path / "report.html").read_text()

    classifier = Classifier.load(tmp_path / "model", StarsPrediction)
    assert type(classifier.head.task) is stars
    [answer] = classifier.predict(["the food was great"])
    assert answer.given[0] in summary.labels
    assert 3.5 <= answer.stars <= 6.5
    assert Inference(classifier).output_adapter.output_names == ("label", "score", "probabilities")


def test_a_model_of_a_task_that_nobody_has_registered_is_refused_by_its_name() -> None:
    with pytest.raises(
        InputError, match=r"task 'stars' is not known\. Use one of single_label_classification, "
    ):
        tasks.find_task("stars")


def test_two_tasks_of_one_name_are_refused(stars: type[Stars]) -> None:
    assert tasks.register_task(stars) is stars
    with pytest.raises(ValueError, match="there is a task 'regression' already"):
        tasks.register_task(type("Other", (Stars,), {"name": "regression"}))


# Nothing outside asks which task it is

NAMES = tasks.task_names()
ROOMS = tuple(f"miniml.tasks.{room}" for room in ("single_label", "multi_label", "regression"))


def _questions(tree: ast.AST) -> Iterator[str]:
    """What of a module depends on which task it is: imports from a task's folder, and its name where names are told
    apart or looked up."""
    for node in ast.walk(tree):
        names: list[ast.expr] = []
        match node:
            case ast.ImportFrom(module=str(module)) if module.startswith(ROOMS):
                yield ast.unparse(node)
            case ast.Import():
                yield from (alias.name for alias in node.names if alias.name.startswith(ROOMS))
            case ast.Compare():
                names = [node.left, *node.comparators]
            case ast.Dict():
                names = [key for key in node.keys if key]
            case ast.MatchValue():
                names = [node.value]
            case ast.Subscript():
                names = [node.slice]
        for name in names:
            yield from (
                word.value
                for word in ast.walk(name)
                if isinstance(word, ast.Constant) and word.value in NAMES
            )


def test_nothing_outside_its_folder_asks_which_task_it_is() -> None:
    found = {}
    for folder in ("miniml", "components", "pipelines", "serving"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("miniml/tasks/"):
                continue
            if asked := list(_questions(ast.parse(path.read_text(encoding="utf-8")))):
                found[name] = asked
    assert found == {}
    for path in (ROOT / "miniml").rglob("templates/*"):
        assert not any(name in path.read_text(encoding="utf-8") for name in NAMES), path


@pytest.mark.parametrize(
    "code",
    [
        "from miniml.tasks.regression.head import RegressionHead",
        "from miniml.tasks.regression import REGRESSION",
        "if summary.task == 'regression': pass",
        "forms = {'regression': 1}",
        "match task:\n case 'regression': pass",
    ],
)
def test_such_a_question_would_be_found(code: str) -> None:
    assert list(_questions(ast.parse(code)))
