"""Tests whether one model is better than another on the same rows, or only by chance.

Rows of one group resemble each other: a model that suits one suits the others. So where the test has groups, chance
assigns whole groups to either model.

Sources:

- Exact test of paired fractions: McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions
  or Percentages", 1947, https://doi.org/10.1007/BF02295996
- Interval of their difference: Agresti and Min, "Simple Improved Confidence Intervals for Comparing Matched
  Proportions", 2005, https://doi.org/10.1002/sim.1781
- Permutation test: Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010,
  https://arxiv.org/abs/1603.05766
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from miniml.evaluation.bootstrap import (
    Groups,
    design_effect,
    mean_with_interval,
    number_of,
    standard_errors,
    summed_by_group,
)
from miniml.evaluation.result import Comparison, Estimate

# With so many, a p-value of 0.05 is within 0.004 of the one over all exchanges.
EXCHANGES = 9_999
# Numbers in memory at once.
AT_ONCE = 2_000_000

Correctness = npt.NDArray[np.bool_]
"""Whether each test row is answered correctly, shape [rows]."""
Errors = npt.NDArray[np.float64]
"""The absolute error of each test row, shape [rows]."""


def compare(
    challenger: Correctness, champion: Correctness, champion_digest: str, groups: Groups = None
) -> Comparison:
    """Compares two classifiers on the same rows, in the same order, by McNemar's exact test.

    Only rows on which one is correct and the other wrong count. If the two were equally good, either would win such a
    row with probability 1/2, so the number of wins is binomial. Where rows have groups, the net gain of each group has
    a random sign, and the test is exact too. The interval of the gain is Agresti and Min's, which also holds where few
    rows differ.

    Args:
        challenger: Whether the new model answers each row correctly, shape [rows].
        champion: Whether the other does, shape [rows].
        champion_digest: The digest of the other; "" for a baseline.
        groups: The rows' groups.
    """
    gains = challenger.astype(np.int64) - champion
    only_challenger, only_champion = int((gains > 0).sum()), int((gains < 0).sum())
    return Comparison(
        champion_digest=champion_digest,
        champion_figure=float(np.mean(champion)),
        only_challenger=only_challenger,
        only_champion=only_champion,
        gain=Estimate(float(gains.mean()), *_interval(gains, groups)),
        p_value=_exact(gains if groups is None else summed_by_group(gains, groups).astype(np.int64)),
    )


def compare_errors(
    challenger: Errors, champion: Errors, champion_digest: str, groups: Groups = None
) -> Comparison:
    """Compares two regressions on the same rows, in the same order, by a paired permutation test.

    If the two were equally good, their errors on a row could be exchanged. The p-value is the fraction of random
    exchanges, by row or by group, that favour the challenger at least as much as the measured errors do.

    Args:
        challenger: The new model's absolute error on each row, shape [rows].
        champion: The other's, shape [rows].
        champion_digest: The digest of the other; "" for a baseline.
        groups: The rows' groups.
    """
    by_row = champion - challenger
    gains = by_row if groups is None else summed_by_group(by_row, groups)
    draw = np.random.default_rng(0)
    as_good = 0
    at_once = max(1, AT_ONCE // len(gains))
    for begin in range(0, EXCHANGES, at_once):
        signs = draw.integers(0, 2, (min(at_once, EXCHANGES - begin), len(gains)), dtype=np.int8) * 2.0 - 1
        # The tolerance keeps rounding from deciding against the measured order itself.
        as_good += int((signs @ gains >= gains.sum() - 1e-12 * np.abs(gains).sum()).sum())
    return Comparison(
        champion_digest=champion_digest,
        champion_figure=float(champion.mean()),
        only_challenger=int((by_row > 0).sum()),
        only_champion=int((by_row < 0).sum()),
        gain=Estimate(*mean_with_interval(by_row, groups)),
        p_value=(as_good + 1) / (EXCHANGES + 1),
        measure="mean_absolute_error",
    )


def _exact(gains: npt.NDArray[np.int64]) -> float:
    """Returns the one-sided p-value of the sum of `gains` under random signs.

    Where all are 1 or -1 that is the binomial test. Otherwise the distribution of the sum comes from its characteristic
    function, a product of cosines: the FFT method of Pagano and Tritchler, "On Obtaining Permutation Distributions in
    Polynomial Time", 1983, https://doi.org/10.1080/01621459.1983.10477990
    """
    sizes, counts = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    if len(sizes) == 1:
        won = int((gains > 0).sum())
        return float(binomtest(won, int(counts[0]), alternative="greater").pvalue)
    largest = int(sizes @ counts)
    waves = 2 * np.pi * np.arange(largest + 1) / (2 * largest + 1)
    transform = np.prod(
        [np.cos(size * waves) ** count for size, count in zip(sizes, counts, strict=True)], axis=0
    )
    # Of the sums 0, 1, ..., largest, -largest, ..., -1.
    probabilities = np.fft.irfft(transform, 2 * largest + 1)
    in_order = np.roll(probabilities, largest)
    tail = float(in_order[largest + int(gains.sum()) :].sum())
    # Rounding may leave less than the probability of the rarest sum.
    return min(1.0, max(tail, 0.5 ** int(counts.sum())))


def _interval(gains: npt.NDArray[np.int64], groups: Groups) -> tuple[float, float]:
    """Returns the interval of a difference of paired fractions: Wald's, with half a row added to each cell.

    Agresti and Min, "Simple Improved Confidence Intervals for Comparing Matched Proportions", 2005,
    https://doi.org/10.1002/sim.1781; rows in groups are divided by the design effect.
    """
    effect, z = design_effect(gains - gains.mean(), groups), standard_errors(number_of(groups))
    if math.isinf(z):
        return -1.0, 1.0
    b, c, n = (
        float((gains > 0).sum()) / effect + 0.5,
        float((gains < 0).sum()) / effect + 0.5,
        len(gains) / effect + 2.0,
    )
    centre = (b - c) / n
    half = z * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return max(-1.0, centre - half), min(1.0, centre + half)
