"""Holds how much each part of a text contributed to an answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribution:
    """A part of a text, with its effect on the answer by occlusion (`miniml.model.occlusion`)."""

    text: str
    effect: float | None = None
    """The decrease of the label's log-odds, or of the number, without this part: above 0 it speaks for the label, below
    0 against it. None where the model does not read it."""
    score_without: float | None = None
    """The probability of the label, or the number, without this part; None where the model does not read it."""
