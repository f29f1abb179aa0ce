"""What a training makes small, and what it looks at on the validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

Labels = npt.NDArray[np.int64]


class Objective(Protocol):
    """A loss.

    A step's loss is `total`, summed over all texts of the step, over their number: so it does not matter into how
    many passes, or onto how many processes, the step is split. (A mean of means would weigh a text more that is alone
    in its pass. And over the sum of the weights, which torch divides by, steps that happen to have no text of a rare
    class would push as hard against it as the others push for it.)
    """

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The losses of texts, summed. Both have the texts along their first axis."""
        ...


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
        # By what a text has, as above: torch's own would weigh what smoothing gives to a label that it lacks.
        if self.positive_weights is not None:
            losses = losses * torch.where(labels > 0, self.positive_weights.to(losses.device), 1.0)
        return losses.mean(dim=1).sum()


class SquaredError:
    """Of texts that have a number each."""

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Both have shape [texts, 1]."""
        return ((logits.float() - labels) ** 2).sum()


def balanced_weights(labels: Labels, classes: int) -> torch.Tensor:
    """Weights under which every class counts as much as any other: rows / (classes * rows of the class)."""
    rows = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (classes * np.maximum(rows, 1)), dtype=torch.float32)


def balanced_positives(labels: npt.NDArray[np.float32]) -> torch.Tensor:
    """Weights under which the texts that have a label count as much as those that do not, shape [labels].

    1 for a label that all of them have, or none: it has nothing to be balanced against, and is to be learnt.
    """
    positives = labels.sum(axis=0)
    negatives = len(labels) - positives
    weights = np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1)
    return torch.tensor(weights, dtype=torch.float32)


def measures(logits: npt.NDArray[np.floating], labels: Labels) -> dict[str, float]:
    """`accuracy`, and `macro_f1` (over the classes that stand among labels or answers), as evaluation has them."""
    found = logits.argmax(axis=-1)
    classes = logits.shape[-1]
    right = np.bincount(labels[found == labels], minlength=classes)
    rows_and_answers = np.bincount(labels, minlength=classes) + np.bincount(found, minlength=classes)
    known = rows_and_answers > 0
    f1 = 2 * right[known] / rows_and_answers[known]
    return {"accuracy": float(np.mean(found == labels)), "macro_f1": float(f1.mean())}
