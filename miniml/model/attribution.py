"""A part of a text, and how much it did for the answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A part of a text, and what it did to the answer."""

    text: str
    effect: float | None = None
    """By how much the log-odds of the answer's label (or the number) fall where the piece is left out: above 0 it
    speaks for the label, below 0 against it. None where the model does not read the piece."""
    score_without: float | None = None
    """The probability of that label, or the number, without the piece."""
