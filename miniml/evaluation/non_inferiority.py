"""Tests whether a smaller model is worse than the full one by less than a margin, on the same rows.

A test of equality cannot show this: on few rows any two models pass for equal. Here the null hypothesis is that the
smaller model loses just as much as the margin, and only rows that speak against it let the model through.

Sources:

- Exact unconditional test of paired fractions: Hsueh, Liu and Chen, "Unconditional Exact Tests for Equivalence or
  Noninferiority for Paired Binary Endpoints", 2001, https://doi.org/10.1111/j.0006-341X.2001.00478.x
- Score by which outcomes are ordered: Tango, "Equivalence Test and Confidence Interval for the Difference in
  Proportions for the Paired-Sample Design", 1998,
  https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B
- Nuisance parameter: Berger and Boos, "P Values Maximized Over a Confidence Set for the Nuisance Parameter", 1994,
  https://doi.org/10.1080/01621459.1994.10476836
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, binomtest, norm
from scipy.stats import t as student

from miniml.evaluation.bootstrap import Groups, design_effect, number_of, summed_by_group
from miniml.evaluation.comparison import Correctness, Errors, compare, compare_errors
from miniml.evaluation.result import LOSS_ERROR_RATE, NonInferiority

POWER = 0.8
"""The probability of passing at which a number of rows counts as enough."""
# How often the confidence interval of the nuisance parameter may miss it. The p-value grows by as much.
MISSED = 0.001
# Values of the nuisance parameter that are tried: the p-value is smooth but for small steps.
SHARES = 32
# Less frequent outcomes are left out of a sum of probabilities.
RARE = 1e-10

Counts = npt.NDArray[np.int64]


def compare_with_margin(
    smaller: Correctness, full: Correctness, full_digest: str, max_loss: float, groups: Groups = None
) -> NonInferiority:
    """Tests whether a smaller classifier loses less than `max_loss` of the fraction of correct rows.

    Without groups the test is exact. Rows in groups are divided by the design effect, and the p-value is widened as
    Student's distribution with as many groups is wider than the normal one.

    Args:
        smaller: Whether the smaller model answers each row correctly, shape [rows].
        full: Whether the full one does, shape [rows].
        full_digest: The digest of the full model.
        max_loss: The margin, as a fraction of the rows.
        groups: The rows' groups.
    """
    comparison = compare(smaller, full, full_digest, groups)
    gains = smaller.astype(np.float64) - full
    effect = design_effect(gains - gains.mean(), groups)
    won, lost, rows = comparison.only_challenger, comparison.only_champion, len(gains)
    # Rounded against the smaller model.
    alone = p_value(int(won / effect), math.ceil(lost / effect), int(rows / effect), max_loss)
    # One row of each kind more: that two models differ on no row of few does not mean that they never do.
    differing = (won + lost + effect) / (rows + effect)
    return NonInferiority(
        comparison=comparison,
        max_loss=max_loss,
        p_value=_widened(alone, number_of(groups)),
        rows=rows,
        rows_needed=_rounded_up(effect * rows_needed(differing, min(0.0, comparison.gain.value), max_loss)),
    )


def compare_errors_with_margin(
    smaller: Errors, full: Errors, full_digest: str, max_loss: float, groups: Groups = None
) -> NonInferiority:
    """Tests whether a smaller regression's mean absolute error is above the full one's by less than a fraction of it.

    Were it above by just that fraction, each row's error could be exchanged with the full model's error, enlarged by
    the fraction: the permutation test of `miniml.evaluation.comparison.compare_errors`.

    Args:
        smaller: The smaller model's absolute error on each row, shape [rows].
        full: The full one's, shape [rows].
        full_digest: The digest of the full model.
        max_loss: The margin, as a fraction of the full model's mean absolute error.
        groups: The rows' groups.
    """
    allowed = full * (1 + max_loss)
    comparison = compare_errors(smaller, full, full_digest, groups)
    spare = allowed - smaller
    sums = spare - spare.mean() if groups is None else summed_by_group(spare - spare.mean(), groups)
    distance = max_loss * float(full.mean()) + min(0.0, comparison.gain.value)
    variance = float((sums**2).sum()) / len(spare)
    return NonInferiority(
        comparison=comparison,
        max_loss=max_loss,
        p_value=compare_errors(smaller, allowed, full_digest, groups).p_value,
        rows=len(spare),
        rows_needed=_rounded_up(_rows_of(variance, distance) if distance > 0 else math.inf),
    )


@cache
def p_value(won: int, lost: int, rows: int, max_loss: float) -> float:
    """Returns how often a model that loses just `max_loss` does at least as well as this one, by chance.

    It is exact: the largest such probability over all fractions of rows that such a model may win, within their
    confidence interval.

    Args:
        won: The number of rows that only the smaller model answers correctly.
        lost: The number of rows that only the full one does.
        rows: The number of all rows.
        max_loss: The margin, as a fraction of the rows.
    """
    if rows < 1:
        return 1.0
    likely = binomtest(won, rows).proportion_ci(1 - MISSED, "exact")
    # A model that loses as much cannot win more.
    most_won = (1 - max_loss) / 2
    wins = np.linspace(min(likely.low, most_won), min(likely.high, most_won), SHARES)
    losses = wins + max_loss
    fewest, most = int(binom.ppf(RARE, rows, losses[0])), int(binom.isf(RARE, rows, losses[-1]))
    lost_rows = np.arange(max(0, fewest), most + 1)
    won_rows = _as_good(lost_rows, rows, max_loss, float(score(won, lost, rows, max_loss)))
    # The rows that are not lost are won with this probability.
    of_others = wins / np.maximum(1 - losses, RARE)
    chances = binom.pmf(lost_rows, rows, losses[:, None]) * binom.sf(
        won_rows - 1, rows - lost_rows, np.minimum(of_others, 1)[:, None]
    )
    return min(1.0, float(chances.sum(axis=1).max()) + MISSED)


def score(won: Any, lost: Any, rows: int, max_loss: float) -> npt.NDArray[np.float64]:
    """Returns by how many standard errors the gain lies above a loss of `max_loss`, by which outcomes are ordered.

    The standard error is that of the most likely model that loses just as much.

    Args:
        won: The numbers of rows that only the smaller model answers correctly, of any shape.
        lost: The numbers of rows that only the full one does, of the same shape.
        rows: The number of all rows.
        max_loss: The margin, as a fraction of the rows.
    """
    won, lost = np.asarray(won, dtype=np.float64), np.asarray(lost, dtype=np.float64)
    both = won + lost + max_loss * (2 * rows - won + lost)
    # Rounding may leave a little less than 0.
    root = np.sqrt(np.maximum(both**2 - 8 * rows * lost * max_loss * (1 + max_loss), 0))
    losses = (both + root) / (4 * rows)
    variance = rows * (2 * losses - max_loss * (1 + max_loss))
    above: npt.NDArray[np.float64] = (won - lost + rows * max_loss) / np.sqrt(np.maximum(variance, 1e-12))
    return above


def rows_needed(differing: float, gain: float, max_loss: float) -> float:
    """Returns the number of rows on which a model passes with the probability `POWER`.

    It is the usual one for a normal distribution, but at least so many that no lost row at all lets a model pass.

    Args:
        differing: The fraction of the rows that one model answers correctly and the other does not.
        gain: The smaller model's true gain; negative if it loses.
        max_loss: The margin, as a fraction of the rows.

    Returns:
        The number; inf where the model loses as much as the margin, or more.
    """
    distance = max_loss + gain
    if distance <= 0:
        return math.inf
    fewest = math.log(LOSS_ERROR_RATE) / math.log1p(-max_loss) if 0 < max_loss < 1 else 1.0
    return max(fewest, _rows_of(max(differing - gain**2, 0.0), distance))


def power(rows: int, differing: float, gain: float, max_loss: float) -> float:
    """Returns the probability that a model passes, as a normal distribution has it: the inverse of `rows_needed`.

    Args:
        rows: The number of rows of the test.
        differing: The fraction of the rows that one model answers correctly and the other does not.
        gain: The smaller model's true gain; negative if it loses.
        max_loss: The margin, as a fraction of the rows.
    """
    error = math.sqrt(max(differing - gain**2, 1e-12) / rows)
    return float(norm.cdf((max_loss + gain) / error - norm.isf(LOSS_ERROR_RATE)))


def _as_good(lost: Counts, rows: int, max_loss: float, least: float) -> Counts:
    """Returns, for each number of lost rows, the fewest won ones that give a score of at least `least`."""
    low, high = np.zeros_like(lost), rows - lost + 1
    while (low < high).any():
        middle = (low + high) // 2
        enough = score(middle, lost, rows, max_loss) >= least - 1e-9
        low, high = np.where(enough | (low >= high), low, middle + 1), np.where(enough, middle, high)
    return high


def _widened(p: float, groups: float) -> float:
    return float(student.sf(norm.isf(p), groups - 1)) if groups > 1 else 1.0


def _rows_of(variance: float, distance: float) -> float:
    # Divided twice, since the square of a small distance is 0.
    return _quantiles() * variance / distance / distance


def _quantiles() -> float:
    """Returns the square of the distance, in standard errors, at which a test passes with the probability `POWER`."""
    return float(norm.isf(LOSS_ERROR_RATE) + norm.ppf(POWER)) ** 2


def _rounded_up(rows: float) -> int:
    """Returns a whole number of rows with two digits, since no more are known; 0 for infinitely many."""
    if math.isinf(rows):
        return 0
    digits = max(0, len(str(math.ceil(rows))) - 2)
    unit = int(10**digits)
    return math.ceil(rows / unit) * unit
