"""Writes a search as one HTML file: a table of the trials, and a picture of the effect of each argument."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from miniml import __version__
from miniml.evaluation.report import HALF, Scale
from miniml.evaluation.result import Estimate
from miniml.progress import duration
from miniml.reports.plots import ACCENT, INK, MUTED, SECOND, shortened, svg, template
from miniml.search.selection_uncertainty import estimate_of
from miniml.search.trial_result import SearchResult, TrialResult, accuracies, rank
from miniml.settings.search import SearchSettings, describe_trial
from miniml.settings.space import Choices, Range, parse

# With more trials, their numbers would cover each other, and the dots.
MAX_NUMBERED = 16
# More ticks would overlap.
MAX_TICKS = 8
# The width of a column, as a fraction of the distance between two.
COLUMN = 0.7
# The margin beside a range, as a fraction of it, so that dots at its ends are whole.
BESIDE = 0.05


def write_report(
    result: SearchResult, settings: SearchSettings, training: dict[str, Any], path: Path
) -> None:
    """Writes the page.

    Args:
        result: The trials and the winner.
        settings: The search's settings.
        training: The arguments that the winner was trained with.
        path: The HTML file to write.
    """
    space = parse(settings.space)
    varied = [name for name in space if len({str(one.trial[name]) for one in result.trial_results}) > 1]
    figures = {one.number: _figure(one, result) for one in result.trial_results}
    known = [figure for figure in figures.values() if figure]
    page = template("search.html").render(
        version=__version__,
        duration=duration,
        result=result,
        settings=settings,
        trials=[
            {
                "trial": one,
                "arguments": describe_trial({name: one.trial[name] for name in varied})
                or describe_trial(one.trial),
                "figure": figures[one.number],
            }
            for one in sorted(result.trial_results, key=lambda one: rank(one, result.picked_by))
        ],
        winner_arguments=describe_trial(result.winner.trial),
        by_share=result.picked_by in accuracies(),
        failed=sum(bool(one.failure) for one in result.trial_results),
        stopped=sum(bool(one.stopped) for one in result.trial_results),
        unlike=settings.stop_early
        and len({one.planned_steps for one in result.trial_results if one.steps}) > 1,
        seconds=sum(one.seconds for one in result.trial_results),
        scale=Scale(_below(known), 1.0) if known else None,
        pictures={name: _picture(name, space[name], result, figures) for name in varied},
        model_id=training["model_id"],
        training={name: value for name, value in training.items() if name not in result.winner.trial},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _figure(trial: TrialResult, result: SearchResult) -> Estimate | None:
    accuracy = trial.accuracy
    return estimate_of(accuracy, result.validation_rows) if math.isfinite(accuracy) else None


def _below(figures: list[Estimate]) -> float:
    """Returns the lower end of the scale of accuracies: a multiple of 0.1, 0.9 at most."""
    return min(0.9, math.floor(10 * min(figure.low for figure in figures)) / 10)


def _picture(
    name: str, entry: Choices | Range, result: SearchResult, figures: dict[int, Estimate | None]
) -> Markup:
    return svg(lambda axes: _against(axes, name, entry, result, figures), HALF)


def _against(
    axes: Axes, name: str, entry: Choices | Range, result: SearchResult, figures: dict[int, Estimate | None]
) -> None:
    """Draws the metric that picked the winner over the values of one argument; a failed trial is a cross below."""
    positions = (
        _between(axes, entry, name, result) if isinstance(entry, Range) else _in_columns(axes, name, result)
    )
    for one in result.trial_results:
        position, won = positions[one.number], one is result.winner
        colour, figure = SECOND if won else ACCENT, figures[one.number]
        if one.failure:
            axes.plot(position, 0.03, "x", color=MUTED, transform=axes.get_xaxis_transform(), clip_on=False)
            continue
        if result.picked_by in accuracies() and figure:
            axes.plot([position, position], [figure.low, figure.high], color=colour, alpha=0.35, linewidth=2)
        height = one.on_validation(result.picked_by)
        axes.plot(position, height, "o", color=colour, markersize=9 if won else 6, zorder=3 if won else 2)
        if len(result.trial_results) <= MAX_NUMBERED:
            axes.annotate(
                str(one.number), (position, height), (6, 3), textcoords="offset points", color=INK, fontsize=9
            )
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(name)
    axes.set_ylabel(f"validation {result.picked_by.replace('_', ' ')}")


def _between(axes: Axes, entry: Range, name: str, result: SearchResult) -> dict[int, float]:
    """Sets up a numeric axis as long as the range, and returns the position of each trial on it."""
    if entry.log:
        axes.set_xscale("log")
        # Over many decades, more than one tick per decade would overlap.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if entry.high / entry.low < 200 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        beside = (entry.high / entry.low) ** BESIDE
        axes.set_xlim(entry.low / beside, entry.high * beside)
    else:
        beside = (entry.high - entry.low) * BESIDE
        axes.set_xlim(entry.low - beside, entry.high + beside)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return {one.number: float(one.trial[name]) for one in result.trial_results}


def _in_columns(axes: Axes, name: str, result: SearchResult) -> dict[int, float]:
    """Sets up an axis with a column per value, and returns the position of each trial on it."""
    values = list(dict.fromkeys(one.trial[name] for one in result.trial_results))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    every = math.ceil(len(values) / MAX_TICKS)
    labels = [
        shortened(f"{value:g}" if isinstance(value, float) else str(value), longest=14) for value in values
    ]
    axes.set_xticks(range(0, len(values), every), labels[::every])
    positions = {}
    for column, value in enumerate(values):
        members = [one.number for one in result.trial_results if one.trial[name] == value]
        for position, number in enumerate(members, 1):
            positions[number] = column + COLUMN * (position / (len(members) + 1) - 0.5)
    return positions
