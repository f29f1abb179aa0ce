"""Is the model better than the one that is served now, or only luckier on this test?

Rows of one group are alike: a model that suits one of them suits the others. So it is whole groups that fall to either
model by chance, where the test has groups.
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
from miniml.evaluation.result import Comparison, Figure

# By chance alone: so that a p-value of 0.05 is within 0.004 of what all exchanges would give.
EXCHANGES = 9_999
# Numbers that are held at once.
AT_ONCE = 2_000_000

Rightness = npt.NDArray[np.bool_]
"""Whether each test row was answered rightly, shape [rows]."""
Errors = npt.NDArray[np.float64]
"""By how much each test row was missed, shape [rows]."""


def compare(
    challenger: Rightness, champion: Rightness, champion_digest: str, groups: Groups = None
) -> Comparison:
    """Compares two models by their answers to the same rows, in the same order.

    Only the rows on which one is right and the other wrong tell them apart. Were the two of equal worth, each
    such row would fall to either like a coin: the exact binomial test (McNemar's) needs no approximation. Where rows
    have groups, the rows that a group gains in all fall to either together, and that test is exact, too.
    The interval of the gain is Agresti and Min's, which holds also where few rows differ.
    """
    gains = challenger.astype(np.int64) - champion
    only_challenger, only_champion = int((gains > 0).sum()), int((gains < 0).sum())
    return Comparison(
        champion_digest=champion_digest,
        champion_figure=float(np.mean(champion)),
        only_challenger=only_challenger,
        only_champion=only_champion,
        gain=Figure(float(gains.mean()), *_interval(gains, groups)),
        p_value=_exact(gains if groups is None else summed_by_group(gains, groups).astype(np.int64)),
    )


def compare_errors(
    challenger: Errors, champion: Errors, champion_digest: str, groups: Groups = None
) -> Comparison:
    """The same of two models that miss each row by some amount.

    Were the two of equal worth, either's error on a row might as well be the other's: the p-value is the share of such
    exchanges, row by row (or group by group) and at random, that favour the challenger as much as what was measured.
    """
    by_row = champion - challenger
    gains = by_row if groups is None else summed_by_group(by_row, groups)
    draw = np.random.default_rng(0)
    as_good = 0
    at_once = max(1, AT_ONCE // len(gains))
    for begin in range(0, EXCHANGES, at_once):
        signs = draw.integers(0, 2, (min(at_once, EXCHANGES - begin), len(gains)), dtype=np.int8) * 2.0 - 1
        # A hair less, or the unchanged order would be beaten by its own rounding.
        as_good += int((signs @ gains >= gains.sum() - 1e-12 * np.abs(gains).sum()).sum())
    return Comparison(
        champion_digest=champion_digest,
        champion_figure=float(champion.mean()),
        only_challenger=int((by_row > 0).sum()),
        only_champion=int((by_row < 0).sum()),
        gain=Figure(*mean_with_interval(by_row, groups)),
        p_value=(as_good + 1) / (EXCHANGES + 1),
        measure="mean_absolute_error",
    )


def _exact(gains: npt.NDArray[np.int64]) -> float:
    """How often `gains`, were each as likely a loss, would come to so much or more.

    Where all are 1 or -1 that is the binomial test. Otherwise the probabilities of all sums are found at once: that of
    a sum of coins of several sizes has a Fourier transform that is a product of cosines.
    """
    sizes, counts = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    if len(sizes) == 1:
        won = int((gains > 0).sum())
        return float(binomtest(won, int(counts[0]), alternative="greater").pvalue)
    most = int(sizes @ counts)
    waves = 2 * np.pi * np.arange(most + 1) / (2 * most + 1)
    transform = np.prod(
        [np.cos(size * waves) ** count for size, count in zip(sizes, counts, strict=True)], axis=0
    )
    probabilities = np.fft.irfft(transform, 2 * most + 1)  # of the sums 0, 1, ..., most, -most, ..., -1
    in_order = np.roll(probabilities, most)
    tail = float(in_order[most + int(gains.sum()) :].sum())
    # Rounding may leave less than the probability of the rarest sum.
    return min(1.0, max(tail, 0.5 ** int(counts.sum())))


def _interval(gains: npt.NDArray[np.int64], groups: Groups) -> tuple[float, float]:
    """Of a difference of paired shares: Wald's, after half a row is added to each cell (Agresti and Min, 2005).

    Rows in groups count as many as they are worth.
    """
    effect, reach = design_effect(gains - gains.mean(), groups), standard_errors(number_of(groups))
    if math.isinf(reach):
        return -1.0, 1.0
    b, c, n = (
        float((gains > 0).sum()) / effect + 0.5,
        float((gains < 0).sum()) / effect + 0.5,
        len(gains) / effect + 2.0,
    )
    centre = (b - c) / n
    half = reach * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return max(-1.0, centre - half), min(1.0, centre + half)
