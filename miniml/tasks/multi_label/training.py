"""The loss of several labels a text, and its metrics on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from miniml.data.prepared import DatasetSummary
from miniml.model import calibration
from miniml.model.heads import Logits
from miniml.settings.choices import BALANCED
from miniml.settings.training import TrainingSettings
from miniml.task import Task
from miniml.tasks.multi_label.head import MultiLabelHead, multi_hot
from miniml.training.objective import Objective
from miniml.training.targets import Encoded, Target


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Of texts that may have several labels: the mean over the labels, each by itself."""

    positive_weights: torch.Tensor | None = None
    """How much a text counts for a label that it has, shape [labels], where one without it counts 1; None: as much."""
    label_smoothing: float = 0.0

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Both have shape [texts, labels]; a label is 1 where the text has it, and else 0."""
        smoothed = (1 - self.label_smoothing) * labels + self.label_smoothing / 2
        losses = binary_cross_entropy_with_logits(logits.float(), smoothed, reduction="none")
        # By what a text has: torch's own would also weigh what smoothing gives to a label that it lacks.
        if self.positive_weights is not None:
            losses = losses * torch.where(labels > 0, self.positive_weights.to(losses.device), 1.0)
        return losses.mean(dim=1).sum()


class MultiLabelTarget(Target):
    """1 for each label that a text has, and 0 for the others."""

    plain: Objective = BinaryCrossEntropy()

    def __init__(self, labels: Sequence[str], *, task: Task | None = None) -> None:
        self.head = MultiLabelHead(tuple(labels), task=task)

    @classmethod
    def of(cls, summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Self:
        return cls(summary.labels, task=summary.task)

    def encoded(self, labels: Sequence[Any]) -> Encoded:
        return multi_hot(labels, self.head.width).astype(np.float32)

    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        weights = balanced_positives(encoded) if settings.class_weights == BALANCED else None
        return BinaryCrossEntropy(weights, settings.label_smoothing)

    def validation_metrics(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
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


def balanced_positives(labels: npt.NDArray[np.float32]) -> torch.Tensor:
    """Weights under which the texts that have a label count as much as those that do not, shape [labels].

    1 for a label that all of them have, or none: it has nothing to be balanced against, and is to be learnt.
    """
    positives = labels.sum(axis=0)
    negatives = len(labels) - positives
    weights = np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1)
    return torch.tensor(weights, dtype=torch.float32)
