"""How far chance may have picked a search's winner: validation has only so many rows, and the best of many flatters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import Normal, order_statistic

from miniml.evaluation.bootstrap import share_with_interval, standard_errors
from miniml.evaluation.result import Figure

# Standard errors on either side of a value that a 95 % interval spans.
_WIDE = standard_errors(math.inf)


@dataclass(frozen=True)
class SelectionUncertainty:
    """About the winner's accuracy on validation."""

    accuracy: Figure
    standard_error: float
    rivals: int
    """How many other trials' accuracy differs from the winner's by no more than chance would make it."""
    optimism: float
    """By how much the luckiest trial's accuracy would, on average, stand too high if all were equally good and each had
    been asked rows of its own. They are asked the same rows, so that this is the most that is to be expected."""


def selection_uncertainty(winner: float, others: Sequence[float], rows: int) -> SelectionUncertainty:
    """Of accuracies on `rows` validation rows, as shares."""
    figure = figure_of(winner, rows)
    error = _standard_error(figure)
    # As if each had been asked rows of its own. On the same rows, as here, a difference is less uncertain.
    rivals = sum(
        winner - other <= _WIDE * math.hypot(error, _standard_error(figure_of(other, rows)))
        for other in others
    )
    return SelectionUncertainty(figure, error, rivals, error * expected_best(1 + len(others)))


def figure_of(accuracy: float, rows: int) -> Figure:
    """An accuracy, and its 95 % interval."""
    return Figure(*share_with_interval(round(accuracy * rows), rows))


def _standard_error(figure: Figure) -> float:
    """By the width of Wilson's interval, which is not zero where every row is answered rightly."""
    return (figure.high - figure.low) / (2 * _WIDE)


def expected_best(count: int) -> float:
    """How many standard errors above their mean the largest of `count` independent normal values is to be expected."""
    return float(order_statistic(Normal(), r=count, n=count).mean())
