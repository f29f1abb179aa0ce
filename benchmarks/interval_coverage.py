"""How often the 95 % intervals hold the true value, by simulation: on worlds where the truth is known.

python -m benchmarks.interval_coverage 1000
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import miniml.tasks.multi_label.metrics as multi_label
import miniml.tasks.regression.metrics as regression
import miniml.tasks.single_label.metrics as classification
from miniml.evaluation.bootstrap import (
    Groups,
    Interval,
    WeightedMetrics,
    bootstrap_intervals,
    fraction_with_interval,
    point_estimates,
)
from miniml.evaluation.comparison import compare, compare_errors
from miniml.tasks.regression.predictions import RegressionPredictions

Rng = np.random.Generator
# Rows of the one large test whose figures are the truth.
LARGE = 100_000
# The groups of a world that has some, all of one size.
GROUPS = 40


@dataclass(frozen=True)
class Test:
    """What is known of one test."""

    figures: dict[str, float]
    """As measured."""
    intervals: Callable[[], dict[str, Interval]]


@dataclass(frozen=True)
class World:
    """A kind of test, of which any number can be drawn."""

    name: str
    rows: int
    draw: Callable[[Rng, int, Groups], Test]
    grouped: bool = False

    def coverage(self, tests: int, seed: int = 0) -> dict[str, float]:
        """The share of `tests` in which each figure's interval holds its true value."""
        draw = np.random.default_rng(seed)
        # Rows of many groups are strangers to each other, nearly.
        truth = self.draw(draw, LARGE, np.arange(LARGE) if self.grouped else None).figures
        groups = np.arange(self.rows) % GROUPS if self.grouped else None
        found: dict[str, list[bool]] = {}
        for _ in range(tests):
            for name, (_, low, high) in self.draw(draw, self.rows, groups).intervals().items():
                found.setdefault(name, []).append(low <= truth[name] <= high)
        return {name: float(np.mean(held)) for name, held in found.items()}


def _of_rows(rows: WeightedMetrics, groups: Groups, more: Callable[[], dict[str, Interval]]) -> Test:
    """A test whose figures are those of `rows`, and `more`, whose values are true of large tests."""

    def figures() -> dict[str, float]:
        return point_estimates(rows) | {name: value for name, (value, _, _) in more().items()}

    return Test(figures() if rows.rows >= LARGE else {}, lambda: bootstrap_intervals(rows, groups) | more())


def _shift(draw: Rng, groups: Groups, rows: int) -> npt.NDArray[np.float64]:
    """How much easier, or harder, each row is than others, as all of its group are."""
    if groups is None:
        return np.zeros(rows)
    shift: npt.NDArray[np.float64] = draw.normal(size=int(groups.max()) + 1)[groups]
    return shift


def classes(skill: float, shares: tuple[float, ...]) -> Callable[[Rng, int, Groups], Test]:
    """Of a classifier that sees the true class among noise, `skill` standard deviations above it."""

    def test(draw: Rng, count: int, groups: Groups) -> Test:
        true = draw.choice(len(shares), size=count, p=shares)
        signal = np.eye(len(shares))[true] * (skill + _shift(draw, groups, count))[:, None]
        evidence = skill * (draw.normal(size=(count, len(shares))) + signal) + np.log(shares)
        odds = np.exp(evidence - evidence.max(axis=1, keepdims=True))
        rows = classification._Rows(odds / odds.sum(axis=1, keepdims=True), true, range(len(shares)))

        def more() -> dict[str, Interval]:
            first = true == 0  # a slice
            return {
                "accuracy": fraction_with_interval(rows.correct, groups),
                "slice": fraction_with_interval(
                    rows.correct[first], None if groups is None else groups[first]
                ),
                classification.CALIBRATION_ERROR: classification.calibration_error(
                    rows.confidence, rows.correct, groups
                ),
                **rows.off_by_one(groups),
            }

        return _of_rows(rows.with_pseudo_rows(), groups, more)

    return test


def labels(right: float) -> Callable[[Rng, int, Groups], Test]:
    """Of three labels a text, one of them rare, each of which is given rightly with probability `right` at least."""

    def test(draw: Rng, count: int, groups: Groups) -> Test:
        true = draw.random((count, 3)) < [0.5, 0.3, 0.1]
        harder = 1 / (1 + np.exp(-_shift(draw, groups, count)))
        given = true ^ (draw.random((count, 3)) > right + (1 - right) * harder[:, None] / 2)
        whole = (given == true).all(axis=1)
        return _of_rows(
            multi_label._Rows.with_pseudo_rows(given, true),
            groups,
            lambda: {"subset_accuracy": fraction_with_interval(whole, groups)},
        )

    return test


def numbers(draw: Rng, count: int, groups: Groups) -> Test:
    """Of a regression."""
    true = draw.normal(size=count)
    found = true + 0.7 * draw.normal(size=count) + 0.5 * _shift(draw, groups, count)

    def more() -> dict[str, Interval]:
        predictions = _numbers(true, found, groups)
        return {"slice": predictions.primary_metric(np.arange(count) % 2 == 0)}

    return _of_rows(regression._Rows(found, true), groups, more)


def _numbers(
    true: npt.NDArray[np.float64], found: npt.NDArray[np.float64], groups: Groups
) -> RegressionPredictions:
    outputs: Any = found.astype(np.float32)[:, None]
    return RegressionPredictions((), [], true, outputs, outputs, np.zeros(0, np.int64), "", "", groups=groups)


def differences(apart: float) -> Callable[[Rng, int, Groups], Test]:
    """Of two models of accuracy 0.8 that differ on some of the rows; the challenger wins 6 of 10 of these."""

    def test(draw: Rng, count: int, groups: Groups) -> Test:
        favours = np.clip(0.6 + 0.15 * _shift(draw, groups, count), 0.2, 1.0)
        differ, wins, both = (
            draw.random(count) < apart,
            draw.random(count) < favours,
            draw.random(count) < 0.8,
        )
        challenger, champion = np.where(differ, wins, both), np.where(differ, ~wins, both)
        gain = compare(challenger, champion, "", groups).gain
        errors = draw.exponential(size=(2, count)) + 0.5 * np.abs(_shift(draw, groups, count)) * [
            [0.5],
            [1.0],
        ]
        fewer = compare_errors(errors[0], errors[1], "", groups).gain if count < LARGE else None
        measured = {"gain": gain.value, "gain in error": float((errors[1] - errors[0]).mean())}
        return Test(
            measured,
            lambda: {
                "gain": (gain.value, gain.low, gain.high),
                **({"gain in error": (fewer.value, fewer.low, fewer.high)} if fewer else {}),
            },
        )

    return test


EVEN = (1 / 3, 1 / 3, 1 / 3)
WORLDS = (
    World("three classes", 150, classes(2.0, EVEN)),
    World("three classes, 20 rows a class", 60, classes(2.0, EVEN)),
    World("a rare class", 200, classes(2.0, (0.9, 0.08, 0.02))),
    World("hardly a mistake", 100, classes(4.0, (0.5, 0.5))),
    World("three classes, 40 groups", 200, classes(2.0, EVEN), grouped=True),
    World("labels", 100, labels(0.9)),
    World("labels, hardly a mistake", 100, labels(0.995)),
    World("labels, 40 groups", 200, labels(0.8), grouped=True),
    World("numbers", 60, numbers),
    World("numbers, 40 groups", 200, numbers, grouped=True),
    World("two models", 200, differences(0.1)),
    World("two models, 40 groups", 400, differences(0.3), grouped=True),
)


def table(tests: int) -> str:
    """Markdown: one line for each world, with the share of tests in which each interval holds the truth."""
    lines = ["| world | rows | intervals that hold the true value |", "|---|---|---|"]
    for world in WORLDS:
        held = ", ".join(
            f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in world.coverage(tests).items()
        )
        lines.append(f"| {world.name} | {world.rows} | {held} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
