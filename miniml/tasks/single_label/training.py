"""The loss of one class a text, and its metrics on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from miniml.data.prepared import DatasetSummary
from miniml.model import calibration
from miniml.model.heads import Logits
from miniml.settings.choices import BALANCED
from miniml.settings.training import TrainingSettings
from miniml.task import Task
from miniml.tasks.single_label.head import SingleLabelHead
from miniml.training.objective import Objective
from miniml.training.targets import Encoded, Target

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CrossEntropy:
    """Of texts that have one class each."""

    class_weights: torch.Tensor | None = None
    """How much a text of each class counts, shape [classes], 1 on the average text; None counts all alike."""
    label_smoothing: float = 0.0

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The weighted losses of texts, summed. `logits` has shape [texts, classes], `labels` [texts]."""
        losses = cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.label_smoothing)
        # torch's own weights would also weigh what smoothing gives to the other classes: of texts of a common class,
        # the rare one would get more than their own.
        if self.class_weights is not None:
            losses = losses * self.class_weights.to(losses.device)[labels]
        return losses.sum()


class SingleLabelTarget(Target):
    """One class for each text."""

    plain: Objective = CrossEntropy()

    def __init__(self, labels: Sequence[str], *, task: Task | None = None) -> None:
        self.head = SingleLabelHead(tuple(labels), task=task)

    @classmethod
    def of(cls, summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Self:
        return cls(summary.labels, task=summary.task)

    def encoded(self, labels: Sequence[Any]) -> Encoded:
        return np.array(labels, dtype=np.int64)

    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        balanced = settings.class_weights == BALANCED
        weights = balanced_weights(encoded, self.head.width) if balanced else None
        return CrossEntropy(weights, settings.label_smoothing)

    def validation_metrics(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        return validation_metrics(logits, encoded)

    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        return calibration.fit_temperature(logits, encoded.tolist())


def balanced_weights(labels: Labels, classes: int) -> torch.Tensor:
    """Weights under which every class counts as much as any other: rows / (classes * rows of the class)."""
    rows = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (classes * np.maximum(rows, 1)), dtype=torch.float32)


def validation_metrics(logits: npt.NDArray[np.floating], labels: Labels) -> dict[str, float]:
    """`accuracy`, and `macro_f1` (over the classes that stand among labels or answers), as evaluation has them."""
    found = logits.argmax(axis=-1)
    classes = logits.shape[-1]
    right = np.bincount(labels[found == labels], minlength=classes)
    rows_and_answers = np.bincount(labels, minlength=classes) + np.bincount(found, minlength=classes)
    known = rows_and_answers > 0
    f1 = 2 * right[known] / rows_and_answers[known]
    return {"accuracy": float(np.mean(found == labels)), "macro_f1": float(f1.mean())}
