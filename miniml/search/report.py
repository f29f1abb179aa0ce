"""A search as one HTML file: every trial in a table, and what each argument did in a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from miniml import __version__
from miniml.evaluation.report import HALF, Scale
from miniml.evaluation.result import Figure
from miniml.progress import duration
from miniml.reports.plots import ACCENT, INK, MUTED, SECOND, shortened, svg, template
from miniml.search.outcome import Outcome, SearchResult, accuracies, rank
from miniml.search.selection_uncertainty import figure_of
from miniml.settings.search import SearchSettings, describe_trial
from miniml.settings.space import Choices, Range, parse

# More numbers would cover each other, and the dots.
MAX_NUMBERED = 16
# More ticks would run into each other.
MAX_TICKS = 8
# Of the distance between two columns, so that there is room between them.
COLUMN = 0.7
# Of a range, so that dots at its ends are whole.
BESIDE = 0.05


def write_report(
    result: SearchResult, settings: SearchSettings, training: dict[str, Any], path: Path
) -> None:
    """Writes the page to `path`. `training` holds the arguments that the winner was trained with."""
    space = parse(settings.space)
    varied = [name for name in space if len({str(one.trial[name]) for one in result.outcomes}) > 1]
    figures = {one.number: _figure(one, result) for one in result.outcomes}
    known = [figure for figure in figures.values() if figure]
    page = template("search.html").render(
        version=__version__,
        duration=duration,
        result=result,
        settings=settings,
        trials=[
            {
                "outcome": one,
                "arguments": describe_trial({name: one.trial[name] for name in varied})
                or describe_trial(one.trial),
                "figure": figures[one.number],
            }
            for one in sorted(result.outcomes, key=lambda one: rank(one, result.picked_by))
        ],
        winner_arguments=describe_trial(result.winner.trial),
        by_share=result.picked_by in accuracies(),
        failed=sum(bool(one.failure) for one in result.outcomes),
        stopped=sum(bool(one.stopped) for one in result.outcomes),
        unlike=settings.stop_early and len({one.planned_steps for one in result.outcomes if one.steps}) > 1,
        seconds=sum(one.seconds for one in result.outcomes),
        scale=Scale(_below(known), 1.0) if known else None,
        pictures={name: _picture(name, space[name], result, figures) for name in varied},
        model_id=training["model_id"],
        training={name: value for name, value in training.items() if name not in result.winner.trial},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _figure(outcome: Outcome, result: SearchResult) -> Figure | None:
    accuracy = outcome.accuracy
    return figure_of(accuracy, result.validation_rows) if math.isfinite(accuracy) else None


def _below(figures: list[Figure]) -> float:
    """The next lower tenth."""
    return min(0.9, math.floor(10 * min(figure.low for figure in figures)) / 10)


def _picture(
    name: str, entry: Choices | Range, result: SearchResult, figures: dict[int, Figure | None]
) -> Markup:
    return svg(lambda axes: _against(axes, name, entry, result, figures), HALF)


def _against(
    axes: Axes, name: str, entry: Choices | Range, result: SearchResult, figures: dict[int, Figure | None]
) -> None:
    """The figure that was picked by, over the values of one argument; a trial that came to nothing is a cross below."""
    places = (
        _between(axes, entry, name, result) if isinstance(entry, Range) else _in_columns(axes, name, result)
    )
    for one in result.outcomes:
        place, won = places[one.number], one is result.winner
        colour, figure = SECOND if won else ACCENT, figures[one.number]
        if one.failure:
            axes.plot(place, 0.03, "x", color=MUTED, transform=axes.get_xaxis_transform(), clip_on=False)
            continue
        if result.picked_by in accuracies() and figure:
            axes.plot([place, place], [figure.low, figure.high], color=colour, alpha=0.35, linewidth=2)
        height = one.on_validation(result.picked_by)
        axes.plot(place, height, "o", color=colour, markersize=9 if won else 6, zorder=3 if won else 2)
        if len(result.outcomes) <= MAX_NUMBERED:
            axes.annotate(
                str(one.number), (place, height), (6, 3), textcoords="offset points", color=INK, fontsize=9
            )
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(name)
    axes.set_ylabel(f"validation {result.picked_by.replace('_', ' ')}")


def _between(axes: Axes, entry: Range, name: str, result: SearchResult) -> dict[int, float]:
    """Where each trial stands on an axis of numbers, which is as long as the range."""
    if entry.log:
        axes.set_xscale("log")
        # Over many decades, more than one tick to a decade would run into each other.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if entry.high / entry.low < 200 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        beside = (entry.high / entry.low) ** BESIDE
        axes.set_xlim(entry.low / beside, entry.high * beside)
    else:
        beside = (entry.high - entry.low) * BESIDE
        axes.set_xlim(entry.low - beside, entry.high + beside)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return {one.number: float(one.trial[name]) for one in result.outcomes}


def _in_columns(axes: Axes, name: str, result: SearchResult) -> dict[int, float]:
    """Where each trial stands among those of the same value, which have a column of the picture."""
    values = list(dict.fromkeys(one.trial[name] for one in result.outcomes))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    every = math.ceil(len(values) / MAX_TICKS)
    labels = [
        shortened(f"{value:g}" if isinstance(value, float) else str(value), longest=14) for value in values
    ]
    axes.set_xticks(range(0, len(values), every), labels[::every])
    places = {}
    for column, value in enumerate(values):
        members = [one.number for one in result.outcomes if one.trial[name] == value]
        for place, number in enumerate(members, 1):
            places[number] = column + COLUMN * (place / (len(members) + 1) - 0.5)
    return places
