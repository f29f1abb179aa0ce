"""How sure one can be of a figure: what it comes to on rows, or groups of rows, drawn again from the test's own.

Rows of one group (reviews by one person, of one product) are alike, and many of them tell less than as many strangers.
Where the test has groups, whole groups are drawn, and shares and means count as many rows as they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from miniml.metrics import metric_named

CONFIDENCE = 0.95
RESAMPLES = 1000
# Where rows times classes are many, fewer resamples give the same interval within its own noise.
FEWEST_RESAMPLES, MAX_WORK = 100, 500_000_000
# Weights, or cells of confusion matrices, that are held at once, in bytes: about what a processor's cache takes.
BYTES_AT_ONCE = 8_000_000
# Rows that are answered otherwise, of all classes together: enough for every kind of mistake to be among them.
DOUBTS = 256
# In place of a 0 that would be divided by: less than any weight.
NOTHING = 1e-9

Shares = npt.NDArray[np.floating]
Interval = tuple[float, float, float]
"""A value, and where its 95 % interval begins and ends."""
Groups = npt.NDArray[np.int64] | None
"""The group of each row, shape [rows], by any number; None where each row stands for itself."""


class Weighable(Protocol):
    """Test rows, and the figures of any draw from them."""

    rows: int
    """With the doubts, which come last."""
    doubts: int
    """How many rows are not the test's: see `bootstrapped`."""
    labels: int
    """How many classes or columns a row has, which tells how much work it is."""

    def scores(self, weights: Shares) -> dict[str, Shares]:
        """Each figure, shape [draws], for `weights`, shape [draws, rows]: how often a draw has each row.

        A figure that a draw tells nothing of is nan.
        """
        ...


def share_with_interval(right: int, rows: int, groups: float = math.inf, effect: float = 1.0) -> Interval:
    """`right` of `rows`, and Wilson's interval.

    Where rows are of so many `groups`, it is that of as many rows as they are worth: `effect` of them tell as much as
    one that stands for itself.
    """
    share, n, reach = right / rows, rows / effect, standard_errors(groups)
    if math.isinf(reach):
        return share, 0.0, 1.0
    centre = (share + reach**2 / (2 * n)) / (1 + reach**2 / n)
    half = reach / (1 + reach**2 / n) * math.sqrt(share * (1 - share) / n + reach**2 / (4 * n * n))
    return share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def share_of(right: npt.NDArray[np.bool_], groups: Groups = None) -> Interval:
    """The share of the rows that are `right`, shape [rows], and its interval."""
    count, rows = int(right.sum()), len(right)
    return share_with_interval(count, rows, number_of(groups), design_effect(right - count / rows, groups))


def mean_with_interval(values: Shares, groups: Groups = None) -> Interval:
    """The mean of `values`, shape [rows], and the interval that its standard error makes by Student's distribution."""
    rows, mean = len(values), float(values.mean())
    sums = values - mean if groups is None else summed_by_group(values - mean, groups)
    if len(sums) == 1:
        return mean, mean, mean
    error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / rows
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(sums) - 1)) * error
    return mean, mean - half, mean + half


def design_effect(deviations: Shares, groups: Groups) -> float:
    """How many rows in groups tell as much as one row that stands for itself; 1 at least.

    Args:
        deviations: Of each row from the mean, shape [rows].
        groups: Theirs. Without groups the effect is 1.
    """
    if groups is None:
        return 1.0
    rows, squares = len(deviations), float((deviations**2).sum())
    sizes = summed_by_group(np.ones(rows), groups)
    if squares == 0.0:  # All alike: then perhaps each group is of one mind.
        return float((sizes**2).sum()) / rows
    between = float((summed_by_group(deviations, groups) ** 2).sum()) * len(sizes) / max(1, len(sizes) - 1)
    return max(1.0, between / squares)


def summed_by_group(values: npt.NDArray[Any], groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The sum of `values`, shape [rows], in each group, shape [groups]."""
    _, group_of = np.unique(groups, return_inverse=True)
    sums: npt.NDArray[np.float64] = np.bincount(group_of, weights=values).astype(np.float64)
    return sums


def number_of(groups: Groups) -> float:
    """How many groups there are; inf, where each row stands for itself."""
    return math.inf if groups is None else len(np.unique(groups))


def standard_errors(groups: float) -> float:
    """How many an interval of so many groups reaches to either side; inf of one group, which tells of no other."""
    return float(student.ppf((1 + CONFIDENCE) / 2, groups - 1)) if groups > 1 else math.inf


def bootstrapped(rows: Weighable, groups: Groups = None) -> dict[str, Interval]:
    """Each figure and its interval: percentiles of the figure on rows drawn again.

    Rows drawn again from a test without a mistake have no mistake either. So draws have some of a doubt, a row of the
    test as it would be had it been answered otherwise: as much as may be although the test has none. Percentiles of few
    rows, or few groups, are too narrow, by what Student's distribution is wider than the normal one.
    """
    tested = rows.rows - rows.doubts
    group_of = np.arange(tested) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = [rows.scores(weights) for weights in _draws(group_of, rows)]
    wider = _widening(int(group_of.max()) + 1)
    found = {}
    for name, value in as_tested(rows).items():
        if np.isfinite(value):
            limits = metric_named(name).limits
            low, high = _percentiles(np.concatenate([draw[name] for draw in drawn]), value, wider)
            # Where nothing is told of a figure without a limit, no file of JSON would hold how far it may reach.
            low, high = (
                edge if math.isfinite(edge) else value for edge in (max(low, limits[0]), min(high, limits[1]))
            )
            found[name] = value, low, high
    return found


def as_tested(rows: Weighable) -> dict[str, float]:
    """Each figure of the test's own rows; nan where they tell nothing of it."""
    once = np.append(np.ones(rows.rows - rows.doubts), np.zeros(rows.doubts))
    return {name: float(value) for name, (value,) in rows.scores(once[None]).items()}


def _percentiles(drawn: Shares, value: float, wider: float) -> tuple[float, float]:
    """Where the interval of a figure begins and ends, which `drawn` tell; -inf and inf where they tell nothing."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or math.isinf(wider):
        return -math.inf, math.inf
    low, middle, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2])
    low, high = middle + wider * (low - middle), middle + wider * (high - middle)
    return min(value, float(low)), max(value, float(high))


def _widening(count: int) -> float:
    if count < 2:
        return math.inf
    return standard_errors(count) / standard_errors(math.inf) * math.sqrt(count / (count - 1))


def _draws(group_of: npt.NDArray[np.int64], rows: Weighable) -> Iterator[Shares]:
    """Weights, shape [draws, rows], of all resamples, as many at a time as a processor's cache holds.

    In float32, which counts exactly up to 16 million rows.
    """
    generator = np.random.default_rng(0)
    tested, groups = len(group_of), int(group_of.max()) + 1
    left = min(RESAMPLES, max(FEWEST_RESAMPLES, MAX_WORK // (rows.rows * rows.labels)))
    at_once = max(1, BYTES_AT_ONCE // (4 * max(rows.rows, rows.labels**2)))
    doubt = float((np.bincount(group_of) ** 2).sum()) / tested  # what a group may change as one
    while left:
        taken = min(left, at_once)
        left -= taken
        counts = [
            np.bincount(generator.integers(groups, size=groups), minlength=groups) for _ in range(taken)
        ]
        weights = np.zeros((taken, rows.rows), dtype=np.float32)
        weights[:, :tested] = np.array(counts) if groups == tested else np.array(counts)[:, group_of]
        if rows.doubts:
            chosen = tested + generator.integers(rows.doubts, size=taken)
            weights[np.arange(taken), chosen] = doubt * _rule_of_three(generator, taken)
        yield weights


def _rule_of_three(generator: np.random.Generator, draws: int) -> Shares:
    """How many rows were never seen: none in half of the draws, and 3 or more in 1 of 40.

    So 3 in n is where the interval of a share ends of which n rows have none.
    """
    return generator.exponential(size=draws) * generator.integers(0, 2, size=draws)


def summed(weights: Shares) -> Shares:
    """Running sums along the rows, with a 0 before the first."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), dtype=weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
