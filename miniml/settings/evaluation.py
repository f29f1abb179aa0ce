"""Settings of the evaluation on the test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miniml.settings.checks import require_at_least, require_choices


@dataclass(frozen=True)
class EvaluationSettings:
    """How a model is evaluated on the test rows."""

    ordered_labels: Literal["auto", "yes", "no"] = "auto"
    """Whether the classes have an order, as star ratings do: "yes" takes the order of the labels, or of the numbers
    that they begin with; "auto" means "yes" where three or more labels all begin with a number."""
    min_slice_rows: int = 30
    """The smallest number of rows of a slice of the test for which the gate judges its accuracy. Smaller slices are
    shown only: with 30 rows, the confidence interval of an accuracy is some 30 percentage points wide."""

    def __post_init__(self) -> None:
        require_choices(self)
        require_at_least("min_slice_rows", self.min_slice_rows, 1)
