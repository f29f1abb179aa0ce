"""Writes the compression as one HTML file: a table of the smaller models, and a plot of their speed and metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from miniml import __version__
from miniml.compression.outcome import MIN_RATIO, Selection
from miniml.progress import duration
from miniml.settings.compression import CompressionSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_report(selection: Selection, settings: CompressionSettings, path: Path) -> None:
    """Writes the page.

    Args:
        selection: What was measured.
        settings: The compression's settings.
        path: The HTML file to write; its folder is made.
    """
    # Only here: they take a second, which a run without a compression need not wait for at its import.
    from miniml.evaluation.report import HALF, MetricFormat
    from miniml.reports.plots import svg, template

    page = template("compression.html").render(
        version=__version__,
        selection=selection,
        settings=vars(settings),
        metric=MetricFormat(selection.metric),
        least_ratio=MIN_RATIO,
        duration=duration,
        picture=selection.candidates and svg(lambda axes: _speed_and_metric(axes, selection), HALF),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _speed_and_metric(axes: Axes, selection: Selection) -> None:
    """Draws each model's metric, with its interval, over its speed."""
    from miniml.reports.plots import ACCENT, INK, MUTED, SECOND, shortened

    axes.axvline(MIN_RATIO, color=MUTED, linestyle=":", linewidth=1.5)
    for each in filter(None, (selection.full, *selection.candidates)):
        is_chosen, figure = each is selection.chosen, each.figure
        colour = SECOND if is_chosen else MUTED if each is selection.full else ACCENT
        axes.plot([each.ratio, each.ratio], [figure.low, figure.high], color=colour, alpha=0.35, linewidth=2)
        axes.plot(each.ratio, figure.value, "o", color=colour, markersize=9 if is_chosen else 6)
        axes.annotate(
            shortened(each.name, 14),
            (each.ratio, figure.value),
            (6, 3),
            textcoords="offset points",
            color=INK,
            fontsize=9,
        )
    axes.margins(x=0.18, y=0.12)
    axes.set_xlabel("times as fast as the full model")
    axes.set_ylabel(f"validation {selection.metric.replace('_', ' ')}")
