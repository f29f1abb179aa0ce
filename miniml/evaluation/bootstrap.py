"""Computes 95 % confidence intervals of metrics: by the bootstrap, Wilson's formula or Student's distribution.

Rows of one group (reviews by one person, of one product) resemble each other, so they carry less information than as
many independent rows. Where the test has groups, the bootstrap draws whole groups, and the formulas divide the number
of rows by the design effect.

Sources:

- Percentile and cluster bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
  https://doi.org/10.1201/9780429246593
- Their correction for few rows: Hesterberg, "What Teachers Should Know About the Bootstrap", 2015,
  https://doi.org/10.1080/00031305.2015.1089789
- Wilson's interval: "Probable Inference, the Law of Succession, and Statistical Inference", 1927,
  https://doi.org/10.1080/01621459.1927.10502953
- Rule of three: Hanley and Lippman-Hand, "If Nothing Goes Wrong, Is Everything All Right?", 1983,
  https://doi.org/10.1001/jama.1983.03330370053031
- Design effect: Rao and Scott, "A Simple Method for the Analysis of Clustered Binary Data", 1992,
  https://doi.org/10.2307/2532311
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
# With many rows times classes, fewer resamples give the same interval within its own noise.
MIN_RESAMPLES, MAX_WORK = 100, 500_000_000
# Weights, or cells of confusion matrices, in memory at once, in bytes: about a processor's cache.
BYTES_AT_ONCE = 8_000_000
# Pseudo-rows of all classes together: enough to have every kind of mistake among them.
PSEUDO_ROWS = 256
# Replaces a divisor of 0; it is less than any weight.
MIN_DIVISOR = 1e-9

Floats = npt.NDArray[np.floating]
Interval = tuple[float, float, float]
"""A value, and the lower and upper end of its 95 % interval."""
Groups = npt.NDArray[np.int64] | None
"""The number of each row's group, shape [rows]; None where rows are independent."""


class WeightedMetrics(Protocol):
    """Test rows whose metrics can be computed under any weights of the rows."""

    rows: int
    """The number of rows, pseudo-rows included, which come last."""
    pseudo_rows: int
    """The number of pseudo-rows, which are not the test's own: see `bootstrap_intervals`."""
    labels: int
    """The number of classes or columns of a row, by which the cost of a resample grows."""

    def scores(self, weights: Floats) -> dict[str, Floats]:
        """Computes the metrics of each draw.

        Args:
            weights: How often each draw has each row, shape [draws, rows].

        Returns:
            Each metric by name, shape [draws]; nan where it is undefined for a draw.
        """
        ...


def wilson_interval(correct: int, rows: int, groups: float = math.inf, effect: float = 1.0) -> Interval:
    """Returns the fraction `correct` / `rows` with Wilson's score interval.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927,
    https://doi.org/10.1080/01621459.1927.10502953

    Args:
        correct: The number of rows that are correct.
        rows: The number of all rows.
        groups: The number of groups that the rows are of; inf where rows are independent.
        effect: The design effect, by which `rows` are divided: how many rows carry the information of one.
    """
    fraction, n, z = correct / rows, rows / effect, standard_errors(groups)
    if math.isinf(z):
        return fraction, 0.0, 1.0
    centre = (fraction + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n * n))
    return fraction, min(fraction, max(0.0, centre - half)), max(fraction, min(1.0, centre + half))


def fraction_with_interval(correct: npt.NDArray[np.bool_], groups: Groups = None) -> Interval:
    """Returns the fraction of rows that are correct, with Wilson's interval.

    Args:
        correct: Whether each row is, shape [rows].
        groups: The rows' groups, by which the interval widens.
    """
    count, rows = int(correct.sum()), len(correct)
    return wilson_interval(count, rows, number_of(groups), design_effect(correct - count / rows, groups))


def mean_with_interval(values: Floats, groups: Groups = None) -> Interval:
    """Returns the mean of `values`, shape [rows], with Student's t interval.

    The standard error is cluster-robust where there are groups: Cameron and Miller, "A Practitioner's Guide to
    Cluster-Robust Inference", 2015, https://doi.org/10.3368/jhr.50.2.317
    """
    rows, mean = len(values), float(values.mean())
    sums = values - mean if groups is None else summed_by_group(values - mean, groups)
    if len(sums) == 1:
        return mean, mean, mean
    error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / rows
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(sums) - 1)) * error
    return mean, mean - half, mean + half


def design_effect(deviations: Floats, groups: Groups) -> float:
    """Returns how many rows carry the information of one independent row; at least 1.

    It is the variance of the mean under whole groups over that under independent rows: Rao and Scott, "A Simple Method
    for the Analysis of Clustered Binary Data", 1992, https://doi.org/10.2307/2532311

    Args:
        deviations: The deviation of each row from the mean, shape [rows].
        groups: The rows' groups. Without groups the effect is 1.
    """
    if groups is None:
        return 1.0
    rows, squares = len(deviations), float((deviations**2).sum())
    sizes = summed_by_group(np.ones(rows), groups)
    if squares == 0.0:  # All rows are equal: assume that each group always is.
        return float((sizes**2).sum()) / rows
    between = float((summed_by_group(deviations, groups) ** 2).sum()) * len(sizes) / max(1, len(sizes) - 1)
    return max(1.0, between / squares)


def summed_by_group(values: npt.NDArray[Any], groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Sums `values`, shape [rows], by group, to shape [groups]."""
    _, group_of = np.unique(groups, return_inverse=True)
    sums: npt.NDArray[np.float64] = np.bincount(group_of, weights=values).astype(np.float64)
    return sums


def number_of(groups: Groups) -> float:
    """Returns the number of groups; inf where rows are independent."""
    return math.inf if groups is None else len(np.unique(groups))


def standard_errors(groups: float) -> float:
    """Returns the half-width of a 95 % interval in standard errors: a quantile of Student's t.

    Args:
        groups: The number of groups, inf for independent rows. For a single group, the result is inf.
    """
    return float(student.ppf((1 + CONFIDENCE) / 2, groups - 1)) if groups > 1 else math.inf


def bootstrap_intervals(rows: WeightedMetrics, groups: Groups = None) -> dict[str, Interval]:
    """Returns each metric with its bootstrap interval: percentiles of the metric over resamples.

    Two corrections are made. A resample of a test without a mistake has no mistake either; so each gets some weight on
    a pseudo-row, which is a row of the test as if it had been answered differently, as often as such rows may exist
    unseen (the rule of three). And percentiles are too narrow with few rows or groups; they are widened as Student's
    distribution is wider than the normal one (see the module's sources).

    Args:
        rows: The test rows, with pseudo-rows if there are any.
        groups: The groups of the test's own rows; whole groups are drawn.

    Returns:
        The metrics by name, within their limits, without those that the test leaves undefined.
    """
    tested = rows.rows - rows.pseudo_rows
    group_of = np.arange(tested) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = [rows.scores(weights) for weights in _draws(group_of, rows)]
    wider = _widening(int(group_of.max()) + 1)
    found = {}
    for name, value in point_estimates(rows).items():
        if np.isfinite(value):
            limits = metric_named(name).limits
            low, high = _percentiles(np.concatenate([draw[name] for draw in drawn]), value, wider)
            # JSON has no infinity, as the end of an unlimited metric's interval may be.
            low, high = (
                edge if math.isfinite(edge) else value for edge in (max(low, limits[0]), min(high, limits[1]))
            )
            found[name] = value, low, high
    return found


def point_estimates(rows: WeightedMetrics) -> dict[str, float]:
    """Returns each metric on the test's own rows; nan where it is undefined."""
    once = np.append(np.ones(rows.rows - rows.pseudo_rows), np.zeros(rows.pseudo_rows))
    return {name: float(value) for name, (value,) in rows.scores(once[None]).items()}


def _percentiles(drawn: Floats, value: float, wider: float) -> tuple[float, float]:
    """Returns the ends of a metric's interval from its values on resamples; -inf and inf where none is finite."""
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


def _draws(group_of: npt.NDArray[np.int64], rows: WeightedMetrics) -> Iterator[Floats]:
    """Yields the weights of all resamples, shape [draws, rows], in parts that fit into a processor's cache.

    They are float32, which counts exactly up to 16 million rows.
    """
    generator = np.random.default_rng(0)
    tested, groups = len(group_of), int(group_of.max()) + 1
    left = min(RESAMPLES, max(MIN_RESAMPLES, MAX_WORK // (rows.rows * rows.labels)))
    at_once = max(1, BYTES_AT_ONCE // (4 * max(rows.rows, rows.labels**2)))
    # The mean number of rows that share a row's group, and so may be wrong together.
    together = float((np.bincount(group_of) ** 2).sum()) / tested
    while left:
        taken = min(left, at_once)
        left -= taken
        counts = [
            np.bincount(generator.integers(groups, size=groups), minlength=groups) for _ in range(taken)
        ]
        weights = np.zeros((taken, rows.rows), dtype=np.float32)
        weights[:, :tested] = np.array(counts) if groups == tested else np.array(counts)[:, group_of]
        if rows.pseudo_rows:
            chosen = tested + generator.integers(rows.pseudo_rows, size=taken)
            weights[np.arange(taken), chosen] = together * _rule_of_three(generator, taken)
        yield weights


def _rule_of_three(generator: np.random.Generator, draws: int) -> Floats:
    """Draws how many unseen rows a resample has, shape [draws]: none in half of the draws, 3 or more in 1 of 40.

    So the interval of a fraction that is 0 of n rows ends at 3 / n: Hanley and Lippman-Hand, "If Nothing Goes Wrong, Is
    Everything All Right?", 1983, https://doi.org/10.1001/jama.1983.03330370053031
    """
    return generator.exponential(size=draws) * generator.integers(0, 2, size=draws)


def summed(weights: Floats) -> Floats:
    """Returns running sums along the rows, with a 0 before the first: shape [draws, rows + 1]."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), dtype=weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
