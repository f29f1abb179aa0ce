"""Estimates how far chance has decided which trial of a search wins, and how optimistic the winner's accuracy is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import Normal, order_statistic

from miniml.evaluation.bootstrap import standard_errors, wilson_interval
from miniml.evaluation.result import Estimate

# The half-width of a 95 % interval, in standard errors.
_HALF_WIDTH = standard_errors(math.inf)


@dataclass(frozen=True)
class SelectionUncertainty:
    """The uncertainty of the winner's accuracy on the validation rows."""

    accuracy: Estimate
    standard_error: float
    rivals: int
    """The number of other trials whose accuracy does not differ significantly from the winner's."""
    optimism: float
    """The expected bias of the best accuracy if all trials were equally good and each had rows of its own. All have the
    same rows, so this is an upper bound."""


def selection_uncertainty(winner: float, others: Sequence[float], rows: int) -> SelectionUncertainty:
    """Estimates the uncertainty of a search's result.

    Args:
        winner: The winner's accuracy, between 0 and 1.
        others: The other trials' accuracies.
        rows: The number of validation rows.
    """
    figure = estimate_of(winner, rows)
    error = _standard_error(figure)
    # This assumes rows of its own for each trial. On the same rows, as here, a difference is less uncertain.
    rivals = sum(
        winner - other <= _HALF_WIDTH * math.hypot(error, _standard_error(estimate_of(other, rows)))
        for other in others
    )
    return SelectionUncertainty(figure, error, rivals, error * expected_best(1 + len(others)))


def estimate_of(accuracy: float, rows: int) -> Estimate:
    """Returns an accuracy with its 95 % interval, from the accuracy and the number of rows."""
    return Estimate(*wilson_interval(round(accuracy * rows), rows))


def _standard_error(figure: Estimate) -> float:
    """Derives the standard error from the width of Wilson's interval, which is not 0 even if every row is correct."""
    return (figure.high - figure.low) / (2 * _HALF_WIDTH)


def expected_best(count: int) -> float:
    """Returns the expected maximum of `count` independent standard normal values."""
    return float(order_statistic(Normal(), r=count, n=count).mean())
