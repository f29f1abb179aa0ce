"""Defines what a training minimizes."""

from __future__ import annotations

from typing import Protocol

import torch


class Objective(Protocol):
    """A loss.

    A step's loss is the sum of `total` over all texts of the step, divided by their number. So it does not depend on
    how many passes or processes the step is split into, as a mean of means would. torch divides by the sum of the
    weights instead: then a step without a text of a rare class would push as hard against that class as the other
    steps push for it.
    """

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the texts' losses, a scalar.

        Args:
            logits: A row per text, as wide as the model's head.
            labels: A row per text, as `Target.encoded` gives them.
        """
        ...


class SquaredDifference:
    """The squared difference between the logits and the labels."""

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sums the losses of texts; both arguments have shape [texts, width]."""
        return ((logits.float() - labels) ** 2).sum()
