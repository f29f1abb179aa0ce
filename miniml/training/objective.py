"""What a training makes small."""

from __future__ import annotations

from typing import Protocol

import torch


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
