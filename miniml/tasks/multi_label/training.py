"""Defines the loss of any number of labels for each text, and the validation metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from miniml.data.prepared import DatasetSummary
from miniml.metrics import Answers
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
    """The binary cross-entropy, averaged over the labels."""

    positive_weights: torch.Tensor | None = None
    """The weight of a text for a label that it has, shape [labels]; without it, and where None, the weight is 1."""
    label_smoothing: float = 0.0

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sums the losses of texts.

        Args:
            logits: Shape [texts, labels].
            labels: 1 where the text has the label, else 0; of the same shape.
        """
        smoothed = (1 - self.label_smoothing) * labels + self.label_smoothing / 2
        losses = binary_cross_entropy_with_logits(logits.float(), smoothed, reduction="none")
        # torch's own weights would also apply to what smoothing gives to a label that the text lacks.
        if self.positive_weights is not None:
            losses = losses * torch.where(labels > 0, self.positive_weights.to(losses.device), 1.0)
        return losses.mean(dim=1).sum()


@dataclass(frozen=True)
class SoftBinaryCrossEntropy:
    """The binary cross-entropy with a full model's probabilities as labels, averaged over the labels."""

    temperature: float
    """The divisor of both models' logits."""

    def total(self, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Sums the losses of texts; both arguments are logits, of shape [texts, labels]."""
        own, full = (each.float() / self.temperature for each in (logits, answers))
        losses = binary_cross_entropy_with_logits(own, full.sigmoid(), reduction="none")
        # A temperature divides the gradient by its square, so that it would change the learning rate too.
        return losses.mean(dim=1).sum() * self.temperature**2


class MultiLabelTarget(Target):
    """The training target of any number of labels: 1 for a label that the text has, else 0."""

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

    def answers_objective(self, temperature: float) -> Objective:
        return SoftBinaryCrossEntropy(temperature)

    def validation_metrics(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        given, true = logits >= 0, encoded > 0
        correct = (given & true).sum(axis=0)
        claimed = given.sum(axis=0) + true.sum(axis=0)
        return {
            "subset_accuracy": float((given == true).all(axis=1).mean()),
            "micro_f1": float(2 * correct.sum() / max(1, claimed.sum())),
            "macro_f1": float((2 * correct / np.maximum(claimed, 1)).mean()),
        }

    def answers(self, logits: Logits, encoded: Encoded) -> Answers:
        return Answers(self.head.task, encoded > 0, logits >= 0, self.head.outputs(logits))

    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        return calibration.fit_temperature_of_several(logits, encoded > 0)


def balanced_positives(labels: npt.NDArray[np.float32]) -> torch.Tensor:
    """Returns weights under which the texts with a label count as much as those without it, shape [labels].

    A label that all texts have, or none, gets weight 1.

    Args:
        labels: 1 where the text has the label, else 0, shape [texts, labels].
    """
    positives = labels.sum(axis=0)
    negatives = len(labels) - positives
    weights = np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1)
    return torch.tensor(weights, dtype=torch.float32)
