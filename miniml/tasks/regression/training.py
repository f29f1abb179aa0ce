"""Defines the loss of numbers, and the validation metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from miniml.data.prepared import DatasetSummary
from miniml.errors import InputError
from miniml.metrics import Answers
from miniml.model.heads import Logits
from miniml.settings.choices import LAST, validation_metrics
from miniml.settings.training import TrainingSettings
from miniml.task import Task
from miniml.tasks.regression.head import RegressionHead
from miniml.tasks.regression.task import REGRESSION
from miniml.training.objective import Objective, SquaredDifference
from miniml.training.targets import Encoded, Target


class RegressionTarget(Target):
    """The training target of a number, standardized, so that one learning rate suits every unit."""

    plain: Objective = SquaredDifference()

    def __init__(self, labels: Sequence[float], *, task: Task | None = None) -> None:
        numbers = np.array(labels, dtype=np.float64)
        self.head: RegressionHead = RegressionHead(
            float(numbers.mean()), float(numbers.std()) or 1.0, task=task
        )

    @classmethod
    def of(cls, summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Self:
        _require_no_classes(settings, summary.task)
        return cls(labels, task=summary.task)

    def encoded(self, labels: Sequence[Any]) -> Encoded:
        """Standardizes the labels, to shape [texts, 1]."""
        numbers = np.array(labels, dtype=np.float64)[:, None]
        return ((numbers - self.head.mean) / self.head.deviation).astype(np.float32)

    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        return SquaredDifference()

    def validation_metrics(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        found, true = self.head.outputs(logits), self.head.outputs(encoded)
        spread = float(true.var())
        return {
            "mean_absolute_error": float(np.abs(found - true).mean()),
            "r2": 1 - float(((found - true) ** 2).mean()) / spread if spread else 0.0,
        }

    def answers(self, logits: Logits, encoded: Encoded) -> Answers:
        found, true = self.head.outputs(logits), self.head.outputs(encoded)
        return Answers(self.head.task, true[:, 0], found[:, 0], found)

    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        return None


def _require_no_classes(settings: TrainingSettings, task: Task) -> None:
    metrics = tuple(name for name in validation_metrics(task) if name != "macro_f1")
    for name, allowed in (
        ("class_weights", ("none",)),
        ("label_smoothing", (0,)),
        ("best_by", (*metrics, LAST)),
    ):
        value = getattr(settings, name)
        if value not in allowed:
            raise InputError(
                f"{name} is {value!r}, but the labels are numbers ({REGRESSION}), of which there are no classes. "
                f"Set it to {' or '.join(map(str, allowed))}."
            )
