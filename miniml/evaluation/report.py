"""Writes the evaluation as one HTML file, without scripts or anything external, for screens, phones and paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

from miniml import __version__
from miniml.evaluation.result import (
    MAX_CONFUSED,
    Confusion,
    Curves,
    Estimate,
    EvaluationResult,
    Mistake,
    ReliabilityBin,
    Scatter,
)
from miniml.metrics import METRICS, metric_named, more_is_better
from miniml.model.attribution import Attribution
from miniml.model.manifest import Manifest
from miniml.reports.curves import loss_curve
from miniml.reports.plots import ACCENT, INK, MUTED, SECOND, shortened, svg, template
from miniml.task import Task

# More classes than this make the cells of a confusion matrix too small to hold their counts.
MAX_CLASSES_WITH_COUNTS = 20
# More classes than this make the names beside it unreadable in a narrow frame.
MAX_CLASSES_IN_A_FRAME = 12
# A person reads the worst; metrics.json holds them all.
MAX_SLICES, MAX_SMALL_SLICES = 20, 12
# Characters of a mistake's text that are shown; the rest is only counted.
MAX_CHARACTERS = 900
# Opacity of a word's mark, in percent: more would hide the word.
MAX_MARK, MIN_MARK = 50, 4
# Inches; two stand side by side on a screen, and one fills a phone.
HALF = (4.3, 3.3)


@dataclass(frozen=True)
class Scale:
    """The values at the two ends of a row in the report's tables."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Returns the position of `value` in percent of the row, at most at its ends."""
        return round(100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))), 2)


@dataclass(frozen=True)
class MetricFormat:
    """Formats the task's primary metric: a fraction in percent, an error in the unit of the labels."""

    measure: str

    @property
    def is_fraction(self) -> bool:
        """Whether the metric is a fraction, of which more is better."""
        return more_is_better(self.measure)

    @property
    def name(self) -> str:
        """The metric's name in words."""
        return self.measure.replace("_", " ")

    def value(self, value: float) -> str:
        """Formats a value of the metric."""
        return f"{100 * value:.1f} %" if self.is_fraction else f"{value:.4g}"

    def interval(self, low: float, high: float) -> str:
        """Formats an interval of the metric, from `low` to `high`."""
        return f"{100 * low:.1f} to {self.value(high)}" if self.is_fraction else f"{low:.4g} to {high:.4g}"

    def difference(self, value: float) -> str:
        """Formats a difference of two values, with its sign; of fractions in percentage points."""
        return (f"{100 * value:+.1f}" if self.is_fraction else f"{value:+.4g}").replace("-", "−")

    def scale(self, figures: Sequence[Estimate]) -> Scale:
        """Returns the scale on which the slices' values are drawn."""
        if self.is_fraction:
            return Scale(_tenth_below([figure.low for figure in figures]), 1.0)
        return Scale(0.0, max((figure.high for figure in figures), default=0.0) or 1.0)


def write_report(
    result: EvaluationResult, model: Manifest, history: list[dict[str, float]], path: Path
) -> None:
    """Writes the page.

    Args:
        result: What evaluation found.
        model: The manifest of the model's folder.
        history: The points of the training curve (`miniml.model.history`).
        path: The file to write; its folder is made.
    """
    calibration, curves, scatter = result.calibration, result.curves, result.scatter
    metric_format, confusion = MetricFormat(result.task.primary_metric), result.confusion()
    page = template("report.html").render(
        version=__version__,
        result=result,
        model=model,
        arguments={**model.arguments.get("data", {}), **model.arguments.get("training", {})},
        metric=metric_format,
        tiles=_tiles(result),
        figures=[
            _row(name, figure, result.baseline.get(name), result.task)
            for name, figure in result.figures.items()
        ],
        slice_scale=metric_format.scale([part.figure for part in result.slices]),
        most_slices=MAX_SLICES,
        most_small_slices=MAX_SMALL_SLICES,
        mistakes=[_marked(mistake, metric_format) for mistake in result.mistakes],
        reliability=calibration
        and svg(lambda axes: _reliability(axes, calibration.before, calibration.after), HALF),
        roc=curves and svg(lambda axes: _roc(axes, curves), HALF),
        precision_recall=curves and svg(lambda axes: _precision_recall(axes, curves, result), HALF),
        training_curve=svg(lambda axes: loss_curve(axes, history), HALF),
        confusion=confusion.counts
        and svg(lambda axes: _confusion_matrix(axes, confusion), _matrix_size(confusion)),
        many_classes=len(confusion.labels) > MAX_CLASSES_IN_A_FRAME,
        most_confused=MAX_CONFUSED,
        scatter=scatter and svg(lambda axes: _scatter(axes, scatter), HALF),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _tiles(result: EvaluationResult) -> list[tuple[str, str]]:
    tiles = [
        (metric.title, f"{result.figures[name].value:.3f}")
        for name, metric in METRICS.items()
        if metric.is_tile and name in result.figures
    ]
    if result.classes:
        tiles.append((result.task.many.capitalize(), str(len(result.classes))))
    if result.speed:
        tiles.append((f"One text, p95 {result.speed.p95_ms:.0f} ms", f"{result.speed.p50_ms:.0f} ms"))
    return [*tiles, ("Texts/s, this machine", f"{result.texts_per_second:,.0f}")]


def _row(name: str, figure: Estimate, baseline: Estimate | None, task: Task) -> dict[str, Any]:
    metric = metric_named(name)
    title, hint = task.metric_titles.get(name, (metric.title, metric.hint))
    high = max(figure.high, baseline.value if baseline else 0.0)
    # Fractions fill the row from 0 to 1; losses and errors, which have no upper limit, fill it by their values.
    scale = Scale(0.0, 1.15 * high or 1.0) if not metric.more_is_better else Scale(min(0.0, figure.low), 1.0)
    return {"title": title, "hint": hint, "figure": figure, "baseline": baseline, "scale": scale}


def _tenth_below(values: Sequence[float]) -> float:
    return min(0.9, math.floor(10 * min(values, default=0.0)) / 10)


def _marked(mistake: Mistake, metric_format: MetricFormat) -> dict[str, Any]:
    """Returns the mistake with its words coloured by their effects, relative to the strongest."""
    strongest = max((abs(piece.effect) for piece in mistake.pieces if piece.effect), default=0.0)
    read = [place for place, piece in enumerate(mistake.pieces) if piece.effect is not None]
    first, last = (read[0], read[-1]) if read else (0, len(mistake.pieces) - 1)
    pieces, shown = [], 0
    for piece in mistake.pieces[first : last + 1]:
        text = piece.text[: MAX_CHARACTERS - shown]
        shown += len(text)
        percent = round(MAX_MARK * abs(piece.effect or 0.0) / strongest) if strongest else 0
        pieces.append(
            {
                "text": text,
                "percent": percent,
                "side": _side(piece, percent),
                "title": _tooltip(piece, metric_format),
            }
        )
    before = sum(len(piece.text) for piece in mistake.pieces[:first])
    whole = sum(len(piece.text) for piece in mistake.pieces)
    return {**vars(mistake), "pieces": pieces, "before": before, "after": whole - before - shown}


def _side(piece: Attribution, percent: int) -> str:
    if piece.effect is None or percent < MIN_MARK:
        return ""
    return "for" if piece.effect > 0 else "against"


def _tooltip(piece: Attribution, metric_format: MetricFormat) -> str:
    return "" if piece.score_without is None else f"without it {metric_format.value(piece.score_without)}"


def _reliability(axes: Axes, before: list[ReliabilityBin], after: list[ReliabilityBin]) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.5)
    rows = max(one.rows for one in [*before, *after])
    for bins, colour, label in ((before, SECOND, "without temperature"), (after, ACCENT, "as served")):
        places = [one.confidence for one in bins], [one.accuracy for one in bins]
        axes.plot(*places, color=colour, linewidth=2, label=label)
        # The area of a dot is proportional to its rows.
        axes.scatter(*places, s=[8 + 90 * one.rows / rows for one in bins], color=colour)
    lowest = min(one.confidence for one in [*before, *after])
    axes.set_xlim(max(0.0, math.floor(10 * lowest) / 10 - 0.02), 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlabel("probability of the answer")
    axes.set_ylabel("fraction that is correct")
    axes.legend(loc="lower right")


def _roc(axes: Axes, curves: Curves) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.5)
    axes.plot([0, *curves.false_positive_rate, 1], [0, *curves.recall, 1], color=ACCENT, linewidth=2)
    _unit_square(axes, "false positive rate", "true positive rate")


def _precision_recall(axes: Axes, curves: Curves, result: EvaluationResult) -> None:
    claims = result.test_rows * len(result.classes)
    axes.axhline(
        sum(scores.rows for scores in result.classes) / claims, color=MUTED, linestyle=":", linewidth=1.5
    )
    axes.plot(curves.recall, curves.precision, color=ACCENT, linewidth=2)
    _unit_square(axes, "recall", "precision")


def _scatter(axes: Axes, scatter: Scatter) -> None:
    ends = min(*scatter.labels, *scatter.predicted), max(*scatter.labels, *scatter.predicted)
    axes.plot(ends, ends, color=MUTED, linestyle=":", linewidth=1.5)
    axes.scatter(scatter.labels, scatter.predicted, s=10, color=ACCENT, alpha=0.5)
    axes.set_xlabel("label")
    axes.set_ylabel("predicted")


def _unit_square(axes: Axes, across: str, up: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _matrix_size(confusion: Confusion) -> tuple[float, float]:
    """Returns width and height in inches: the cells, the names beside them and, if turned, those below."""
    cells = min(9.0, 1.2 + 0.58 * len(confusion.labels))
    # The widest letters take 0.15 inches.
    names = 0.15 * max(map(len, _short_names(confusion)))
    return cells + 0.5 + names, cells + 0.5 + (0.7 * names if _are_names_turned(confusion) else 0.2)


def _short_names(confusion: Confusion) -> list[str]:
    return [shortened(label, longest=14) for label in confusion.labels]


def _are_names_turned(confusion: Confusion) -> bool:
    """Whether the names below the matrix are turned, because they would overlap."""
    names = _short_names(confusion)
    return len(names) > 3 or max(map(len, names)) > 9


def _confusion_matrix(axes: Axes, confusion: Confusion) -> None:
    names = _short_names(confusion)
    positions = list(range(len(names)))
    for row, counts in enumerate(confusion.counts):
        for column, count in enumerate(counts):
            fraction = count / max(1, sum(counts))
            # At most half opaque, so that the ink on it stays readable in light and dark.
            colour = ACCENT if row == column else SECOND
            axes.add_patch(
                mpl.patches.Rectangle(
                    (column - 0.48, row - 0.48), 0.96, 0.96, color=colour, alpha=0.5 * fraction
                )
            )
            if len(names) <= MAX_CLASSES_WITH_COUNTS:
                axes.text(column, row, f"{count:,}\n{fraction:.0%}", ha="center", va="center", fontsize=9)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks(positions, names, rotation=45 if _are_names_turned(confusion) else 0, color=INK)
    axes.set_yticks(positions, names, color=INK)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
