"""The interface by which evaluate looks at a model's answers to a test, whatever the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.errors import InputError
from miniml.evaluation.baseline import Baseline
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import Calibration, Curves, Mistake, Sample, Scatter
from miniml.evaluation.scores import Scores
from miniml.model.classifier import Classifier, Probabilities
from miniml.settings.evaluation import EvaluationSettings

# Explained at the cost of as many texts each; together a few seconds of a small encoder.
MISTAKES, TEXTS_A_MISTAKE = 6, 32
# Points of a curve: more than a picture of its size can show.
CURVE_POINTS = 101


class Evaluator(ABC):
    """What there is to say of one model's answers to a test."""

    def __init__(self, classifier: Classifier, settings: EvaluationSettings) -> None:
        """
        Raises:
            InputError: the settings ask for what the task has not.
        """
        self.classifier = classifier
        self.task = classifier.head.task
        self.labels = classifier.labels
        self.check_order(settings)

    def check_order(self, settings: EvaluationSettings) -> None:
        """Refuses an order of classes, where the task has none.

        Raises:
            InputError: the settings say that there is one.
        """
        if settings.ordered_labels == "yes":
            raise InputError(
                f"ordered_labels is 'yes', but the model does {self.task}, in which a text does not "
                f"have one of several classes. Set ordered_labels to auto or no."
            )

    def predictions(self, **facts: Any) -> Predictions:
        """Gives the answers to the test; `facts` are the fields of the task's `Predictions`."""
        kind: type[Predictions] = self.task.part("predictions")
        return kind(**facts, task=self.task)

    @abstractmethod
    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        """The dataset's column `label` in the form of `Predictions.references`."""

    @abstractmethod
    def scores(self, predictions: Predictions) -> Scores:
        """The figures of these answers."""

    @abstractmethod
    def baseline(self) -> Baseline:
        """A simple model for the same task, not trained yet."""

    @abstractmethod
    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        """The one answer, shape [width], that is best for `references`, those of training, if texts are not read."""

    @abstractmethod
    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        """The worst of them, the worst first."""

    @abstractmethod
    def sample(self, text: str, outputs: Probabilities) -> Sample:
        """The answer to one text, shape [width], for deploy to hold the served one against."""

    def more_facts(self) -> dict[str, Any]:
        """What the task's predictions tell beside what all do."""
        return {}

    def majority_share(self, predictions: Predictions) -> float | None:
        """The share of rows that always giving the most frequent answer gets right."""
        names = predictions.names(predictions.references)
        ((_, rows),) = Counter(map(str, names)).most_common(1)
        return rows / len(names)

    def calibration(self, predictions: Predictions) -> Calibration | None:
        """How far the probabilities mean what they say, where they are one distribution."""
        return None

    def curves(self, predictions: Predictions) -> Curves | None:
        """Where there are probabilities, and not all rows alike."""
        return None

    def scatter(self, predictions: Predictions) -> Scatter | None:
        """Where answers are numbers."""
        return None


def evaluator_of(classifier: Classifier, settings: EvaluationSettings) -> Evaluator:
    """Gives the evaluator of the model's task.

    Raises:
        InputError: the settings ask for what the task has not.
    """
    evaluator: Evaluator = classifier.head.task.part("evaluator")(classifier, settings)
    return evaluator


def curves_of(probabilities: Probabilities, true: npt.NDArray[np.bool_]) -> Curves:
    """Gives the curves of probabilities, shape [rows, labels].

    Each probability of each row is one claim that the row has that label; `true`, of the same shape, says which it has.
    """
    claims, true = probabilities.ravel().astype(np.float64), true.ravel()
    order = np.argsort(-claims, kind="stable")
    found = np.cumsum(true[order])
    # Equal probabilities stand and fall together.
    ends = np.append(np.flatnonzero(np.diff(claims[order])), len(claims) - 1)
    # Evenly along the curve, which both rates make.
    along = (found[ends] / found[-1] + (ends + 1 - found[ends]) / (len(claims) - found[-1])) / 2
    kept = ends[np.unique(np.searchsorted(along, np.linspace(0, 1, CURVE_POINTS)).clip(max=len(ends) - 1))]
    recall, wrong = found[kept] / found[-1], kept + 1 - found[kept]
    return Curves(
        thresholds=claims[order][kept].tolist(),
        false_positive_rate=(wrong / (len(claims) - found[-1])).tolist(),
        recall=recall.tolist(),
        precision=(found[kept] / (kept + 1)).tolist(),
    )
