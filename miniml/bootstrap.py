"""How sure one can be of a figure: what it comes to on rows drawn again from the test's own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

CONFIDENCE = 0.95
RESAMPLES = 1000
# Where rows times classes are many, fewer resamples give the same interval within its own noise.
FEWEST_RESAMPLES, MOST_WORK = 100, 500_000_000
# Weights that are held at once, in bytes: about what a processor's cache takes.
BYTES_AT_ONCE = 8_000_000

LIMITS = {
    "mcc": (-1.0, 1.0),
    "spearman": (-1.0, 1.0),
    "r2": (-math.inf, 1.0),
    "log_loss": (0.0, math.inf),
    "mean_absolute_error": (0.0, math.inf),
    "root_mean_squared_error": (0.0, math.inf),
}
"""Between which values a figure lies, where that is not 0 to 1."""

Shares = npt.NDArray[np.floating]
Interval = tuple[float, float, float]
"""A value, and where its 95 % interval begins and ends."""


class Weighable(Protocol):
    """Test rows, and the figures of any draw from them."""

    rows: int
    labels: int
    """How many classes or columns a row has, which tells how much work it is."""

    def scores(self, weights: Shares) -> dict[str, Shares]:
        """Each figure, shape [draws], for `weights`, shape [draws, rows]: how often a draw has each row.

        A figure that a draw tells nothing of is nan.
        """
        ...


def share_with_interval(right: int, rows: int) -> Interval:
    """`right` of `rows`, and Wilson's interval."""
    interval = binomtest(right, rows).proportion_ci(CONFIDENCE, method="wilson")
    return right / rows, float(interval.low), float(interval.high)


def bootstrapped(rows: Weighable) -> dict[str, Interval]:
    """Each figure and its interval: percentiles of the figure on rows drawn again, freed of the drawing's own bias.

    A calibration error grows by drawing alone: without the correction its interval would lie above it.
    """
    values = rows.scores(np.ones((1, rows.rows)))
    drawn = [rows.scores(weights) for weights in _draws(rows.rows, rows.labels)]
    found = {}
    for name, (value,) in values.items():
        if not np.isfinite(value):
            continue
        resampled = np.concatenate([draw[name] for draw in drawn])
        resampled = resampled[np.isfinite(resampled)]
        edges = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        low, high = np.clip(edges - (resampled.mean() - value), *LIMITS.get(name, (0.0, 1.0)))
        found[name] = float(value), float(min(low, value)), float(max(high, value))
    return found


def _draws(rows: int, labels: int) -> Iterator[Shares]:
    """Weights, shape [draws, rows], of all resamples, as many at a time as a processor's cache holds.

    In float32, which counts exactly up to 16 million rows.
    """
    generator = np.random.default_rng(0)
    left = min(RESAMPLES, max(FEWEST_RESAMPLES, MOST_WORK // (rows * labels)))
    at_once = max(1, BYTES_AT_ONCE // (4 * rows))
    while left:
        taken = min(left, at_once)
        left -= taken
        yield np.array(
            [np.bincount(generator.integers(rows, size=rows), minlength=rows) for _ in range(taken)],
            dtype=np.float32,
        )


def summed(weights: Shares) -> Shares:
    """Running sums along the rows, with a 0 before the first."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), dtype=weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
