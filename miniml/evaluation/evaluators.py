"""Defines the interface by which the evaluate stage scores a model, whatever the task."""

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

# Mistakes that are explained, and texts that each costs; together a few seconds of a small encoder.
MISTAKES, TEXTS_A_MISTAKE = 6, 32
# Points of a curve: more than a picture of its size can show.
CURVE_POINTS = 101


class Evaluator(ABC):
    """Scores one model's answers to a test; each task has a subclass."""

    def __init__(self, classifier: Classifier, settings: EvaluationSettings) -> None:
        """
        Raises:
            InputError: the settings do not suit the task.
        """
        self.classifier = classifier
        self.task = classifier.head.task
        self.labels = classifier.labels
        self.check_order(settings)

    def check_order(self, settings: EvaluationSettings) -> None:
        """Checks `ordered_labels`: a task without classes has no order of them.

        Raises:
            InputError: the settings say that the classes are ordered.
        """
        if settings.ordered_labels == "yes":
            raise InputError(
                f"ordered_labels is 'yes', but the model does {self.task}, in which a text does not "
                f"have one of several classes. Set ordered_labels to auto or no."
            )

    @abstractmethod
    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        """Converts the dataset's column `label` to the form of `Predictions.references`."""

    @abstractmethod
    def scores(self, predictions: Predictions) -> Scores:
        """Computes the task's metrics of these answers, with their intervals."""

    @abstractmethod
    def baseline(self) -> Baseline:
        """Returns an untrained simple model for the same task."""

    @abstractmethod
    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        """Returns the best answer of a model that ignores the text, shape [width].

        Args:
            references: The training rows' labels, in the form of `Predictions.references`.
        """

    @abstractmethod
    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        """Returns at most `MISTAKES` wrong answers, the worst first, each with its attributions."""

    @abstractmethod
    def sample(self, text: str, outputs: Probabilities) -> Sample:
        """Returns a text with its answer, with which deploy compares the served model's.

        Args:
            text: A text of the test.
            outputs: The model's outputs for it, shape [width].
        """

    def majority_share(self, predictions: Predictions) -> float | None:
        """Returns the fraction of rows that the most frequent answer is correct for; None where answers are numbers."""
        names = predictions.names(predictions.references)
        ((_, rows),) = Counter(map(str, names)).most_common(1)
        return rows / len(names)

    def calibration(self, predictions: Predictions) -> Calibration | None:
        """Returns the calibration before and after the temperature; None where the task has none."""
        return None

    def curves(self, predictions: Predictions) -> Curves | None:
        """Returns the ROC and precision-recall curves; None where the task has none, or all rows have one label."""
        return None

    def scatter(self, predictions: Predictions) -> Scatter | None:
        """Returns points of labels and answers; None where answers are not numbers."""
        return None


def evaluator_of(classifier: Classifier, settings: EvaluationSettings) -> Evaluator:
    """Returns the evaluator of the model's task.

    Raises:
        InputError: the settings do not suit the task.
    """
    evaluator: Evaluator = classifier.head.task.part("evaluator")(classifier, settings)
    return evaluator


def curves_of(probabilities: Probabilities, true: npt.NDArray[np.bool_]) -> Curves:
    """Returns the micro-averaged ROC and precision-recall curves, with at most `CURVE_POINTS` points.

    Each pair of a row and a label is one binary decision, and all of them are pooled. For ROC see Fawcett, "An
    Introduction to ROC Analysis", 2006, https://doi.org/10.1016/j.patrec.2005.10.010; for the micro-average,
    https://scikit-learn.org/stable/modules/model_evaluation.html#roc-metrics

    Args:
        probabilities: The probability of each label, shape [rows, labels].
        true: Whether the row has the label, of the same shape.
    """
    claims, true = probabilities.ravel().astype(np.float64), true.ravel()
    order = np.argsort(-claims, kind="stable")
    found = np.cumsum(true[order])
    # Equal probabilities pass the threshold together.
    ends = np.append(np.flatnonzero(np.diff(claims[order])), len(claims) - 1)
    # Points are spaced evenly along the ROC curve.
    along = (found[ends] / found[-1] + (ends + 1 - found[ends]) / (len(claims) - found[-1])) / 2
    kept = ends[np.unique(np.searchsorted(along, np.linspace(0, 1, CURVE_POINTS)).clip(max=len(ends) - 1))]
    recall, wrong = found[kept] / found[-1], kept + 1 - found[kept]
    return Curves(
        thresholds=claims[order][kept].tolist(),
        false_positive_rate=(wrong / (len(claims) - found[-1])).tolist(),
        recall=recall.tolist(),
        precision=(found[kept] / (kept + 1)).tolist(),
    )
