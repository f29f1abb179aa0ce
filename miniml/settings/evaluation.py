"""How to look at the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miniml.settings.checks import require_at_least, require_choices


@dataclass(frozen=True)
class EvaluationSettings:
    """How to look at the test."""

    ordered_labels: Literal["auto", "yes", "no"] = "auto"
    """Whether the classes have an order, as stars do: "yes" takes the labels' own, or that of the numbers they begin
    with; "auto" says yes where three or more labels all begin with a number."""
    min_slice_rows: int = 30
    """A part of the test with fewer rows is shown, and not judged: of 30 rows, the interval of an accuracy is some
    30 points wide."""

    def __post_init__(self) -> None:
        require_choices(self)
        require_at_least("min_slice_rows", self.min_slice_rows, 1)
