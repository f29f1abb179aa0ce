"""What a training makes small, and what it looks at on the validation rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CrossEntropy:
    """The loss of a classifier whose texts have one class each.

    A step's loss is `total`, summed over all texts of the step, over their number: so it does not matter into how
    many passes, or onto how many processes, the step is split. (A mean of means would weigh a text more that is alone
    in its pass. And over the sum of the weights, which torch divides by, steps that happen to have no text of a rare
    class would push as hard against it as the others push for it.)
    """

    class_weights: torch.Tensor | None = None
    """How much a text of each class counts, shape [classes], 1 on the average text; None counts all alike."""
    label_smoothing: float = 0.0

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The weighted losses of texts, summed. `logits` has shape [texts, classes], `labels` [texts]."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return cross_entropy(
            logits.float(), labels, weights, reduction="sum", label_smoothing=self.label_smoothing
        )


def balanced_weights(labels: Labels, classes: int) -> torch.Tensor:
    """Weights under which every class counts as much as any other: rows / (classes * rows of the class)."""
    rows = np.bincount(labels, minlength=classes)
    return torch.tensor(len(labels) / (classes * np.maximum(rows, 1)), dtype=torch.float32)


def plain_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean log loss, neither weighted nor smoothed: the same figure, whatever the training makes small."""
    return cross_entropy(logits.float(), labels)


def measures(logits: npt.NDArray[np.floating], labels: Labels) -> dict[str, float]:
    """`accuracy`, and `macro_f1` (over the classes that stand among labels or answers), as evaluation has them."""
    found = logits.argmax(axis=-1)
    classes = logits.shape[-1]
    right = np.bincount(labels[found == labels], minlength=classes)
    rows_and_answers = np.bincount(labels, minlength=classes) + np.bincount(found, minlength=classes)
    known = rows_and_answers > 0
    f1 = 2 * right[known] / rows_and_answers[known]
    return {"accuracy": float(np.mean(found == labels)), "macro_f1": float(f1.mean())}
