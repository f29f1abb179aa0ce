"""Defines the loss of one class for each text, and the validation metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from miniml.data.prepared import DatasetSummary
from miniml.metrics import Answers
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
    """The cross-entropy, with optional class weights and label smoothing."""

    class_weights: torch.Tensor | None = None
    """The weight of a text of each class, shape [classes], 1 on average over the texts; None weighs all alike."""
    label_smoothing: float = 0.0

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sums the weighted losses of texts.

        Args:
            logits: Shape [texts, classes].
            labels: The index of each text's class, shape [texts].
        """
        losses = cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.label_smoothing)
        # torch's own weights would also apply to what smoothing gives to the other classes: on texts of a common class,
        # a rare one would weigh more than their own.
        if self.class_weights is not None:
            losses = losses * self.class_weights.to(losses.device)[labels]
        return losses.sum()


@dataclass(frozen=True)
class Divergence:
    """The Kullback-Leibler divergence of a model's probabilities from a full model's."""

    temperature: float
    """The divisor of both models' logits."""

    def total(self, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Sums the divergences of texts; both arguments are logits, of shape [texts, classes]."""
        own, full = (log_softmax(each.float() / self.temperature, dim=1) for each in (logits, answers))
        # A temperature divides the gradient by its square, so that it would change the learning rate too.
        return kl_div(own, full, reduction="sum", log_target=True) * self.temperature**2


class SingleLabelTarget(Target):
    """The training target of one class for each text."""

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

    def answers_objective(self, temperature: float) -> Objective:
        return Divergence(temperature)

    def validation_metrics(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        return validation_metrics(logits, encoded)

    def answers(self, logits: Logits, encoded: Encoded) -> Answers:
        return Answers(self.head.task, encoded, logits.argmax(axis=-1), self.head.outputs(logits))

    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        return calibration.fit_temperature(logits, encoded.tolist())


def balanced_weights(labels: Labels, classes: int) -> torch.Tensor:
    """Returns weights under which every class counts equally: rows / (classes * rows of the class).

    It is scikit-learn's "balanced":
    https://scikit-learn.org/stable/modules/generated/sklearn.utils.class_weight.compute_class_weight.html

    Args:
        labels: The index of each text's class, shape [texts].
        classes: The number of classes.

    Returns:
        Shape [classes].
    """
    rows = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (classes * np.maximum(rows, 1)), dtype=torch.float32)


def validation_metrics(logits: npt.NDArray[np.floating], labels: Labels) -> dict[str, float]:
    """Computes `accuracy` and `macro_f1` as evaluation does.

    Args:
        logits: Shape [texts, classes].
        labels: The index of each text's class, shape [texts].

    Returns:
        The metrics by name. `macro_f1` is over the classes that occur among labels or answers.
    """
    found = logits.argmax(axis=-1)
    classes = logits.shape[-1]
    correct = np.bincount(labels[found == labels], minlength=classes)
    rows_and_answers = np.bincount(labels, minlength=classes) + np.bincount(found, minlength=classes)
    known = rows_and_answers > 0
    f1 = 2 * correct[known] / rows_and_answers[known]
    return {"accuracy": float(np.mean(found == labels)), "macro_f1": float(f1.mean())}
