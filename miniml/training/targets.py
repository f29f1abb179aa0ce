"""What a model is to learn of the labels of each task, and how well it does on the validation rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.data.prepared import DatasetSummary
from miniml.errors import InputError
from miniml.model import calibration
from miniml.model.heads import Head, Logits, OneClass, OneNumber, SeveralLabels, several
from miniml.settings.choices import BALANCED, BEST_BY
from miniml.settings.training import TrainingSettings
from miniml.tasks.task import Task
from miniml.training.objective import (
    BinaryCrossEntropy,
    CrossEntropy,
    Objective,
    SquaredError,
    balanced_positives,
    balanced_weights,
    measures,
)

Encoded = npt.NDArray[Any]
BEST_BY_OF_NUMBERS = tuple(name for name in BEST_BY if name != "macro_f1")


class Target(ABC):
    """The labels as numbers that a loss can be taken of, and what the model's numbers then mean."""

    head: Head
    plain: Objective
    """The loss neither weighted nor smoothed: of validation rows the same figure, whatever the training makes small."""

    @abstractmethod
    def encoded(self, labels: Sequence[Any]) -> Encoded:
        """The dataset's column `label`, an entry a text, as the loss takes it."""

    @abstractmethod
    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        """What the training makes small, on rows with these labels."""

    @abstractmethod
    def measures(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        """The figures of the validation rows, under the names that evaluation has for them."""

    @abstractmethod
    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        """What makes the probabilities mean what they say; None where there are none."""


class ClassTarget(Target):
    """One class for each text."""

    plain = CrossEntropy()

    def __init__(self, labels: Sequence[str]) -> None:
        self.head = OneClass(tuple(labels))

    def encoded(self, labels: Sequence[Any]) -> Encoded:
        return np.array(labels, dtype=np.int64)

    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        balanced = settings.class_weights == BALANCED
        weights = balanced_weights(encoded, self.head.width) if balanced else None
        return CrossEntropy(weights, settings.label_smoothing)

    def measures(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        return measures(logits, encoded)

    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        return calibration.fit_temperature(logits, encoded.tolist())


class LabelsTarget(Target):
    """1 for each label that a text has, and 0 for the others."""

    plain = BinaryCrossEntropy()

    def __init__(self, labels: Sequence[str]) -> None:
        self.head = SeveralLabels(tuple(labels))

    def encoded(self, labels: Sequence[Any]) -> Encoded:
        return several(labels, self.head.width).astype(np.float32)

    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        weights = balanced_positives(encoded) if settings.class_weights == BALANCED else None
        return BinaryCrossEntropy(weights, settings.label_smoothing)

    def measures(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        given, true = logits >= 0, encoded > 0
        right = (given & true).sum(axis=0)
        claimed = given.sum(axis=0) + true.sum(axis=0)
        return {
            "subset_accuracy": float((given == true).all(axis=1).mean()),
            "micro_f1": float(2 * right.sum() / max(1, claimed.sum())),
            "macro_f1": float((2 * right / np.maximum(claimed, 1)).mean()),
        }

    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        return calibration.fit_temperature_of_several(logits, encoded > 0)


class NumberTarget(Target):
    """Standard deviations from the mean of the training labels: so that one learning rate suits every unit."""

    plain = SquaredError()

    def __init__(self, labels: Sequence[float]) -> None:
        numbers = np.array(labels, dtype=np.float64)
        self.head: OneNumber = OneNumber(float(numbers.mean()), float(numbers.std()) or 1.0)

    def encoded(self, labels: Sequence[Any]) -> Encoded:
        """Of shape [texts, 1], as the model's numbers are."""
        numbers = np.array(labels, dtype=np.float64)[:, None]
        return ((numbers - self.head.mean) / self.head.deviation).astype(np.float32)

    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        return SquaredError()

    def measures(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        found, true = self.head.outputs(logits), self.head.outputs(encoded)
        spread = float(true.var())
        return {
            "mean_absolute_error": float(np.abs(found - true).mean()),
            "r2": 1 - float(((found - true) ** 2).mean()) / spread if spread else 0.0,
        }

    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        return None


def target_of(summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Target:
    """The target of a dataset whose training rows have these labels.

    Raises:
        InputError: the settings ask for what there is not with such labels.
    """
    if summary.task == Task.REGRESSION:
        _require_no_classes(settings)
        return NumberTarget(labels)
    return (LabelsTarget if summary.task == Task.MULTI_LABEL else ClassTarget)(summary.labels)


def _require_no_classes(settings: TrainingSettings) -> None:
    for name, allowed in (
        ("class_weights", ("none",)),
        ("label_smoothing", (0,)),
        ("best_by", BEST_BY_OF_NUMBERS),
    ):
        value = getattr(settings, name)
        if value not in allowed:
            raise InputError(
                f"{name} is {value!r}, but the labels are numbers ({Task.REGRESSION}), of which there are no classes. "
                f"Set it to {' or '.join(map(str, allowed))}."
            )
