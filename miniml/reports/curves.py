"""Plots the curves of a training for the reports on training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from miniml.model.history import VALIDATION, Points, line, validation_fractions
from miniml.reports.plots import ACCENT, MUTED, SECOND


def loss_curve(axes: Axes, points: Points, kept: float | None = None) -> None:
    """Plots the losses of training, smoothed over the steps, and of validation.

    Args:
        axes: Where to plot.
        points: The history of the training.
        kept: The step whose weights were kept; None marks none.
    """
    steps, values = line(points, "loss")
    if steps:
        axes.plot(steps, values, color=ACCENT, alpha=0.3, linewidth=1)
        axes.plot(steps, _smoothed(values), color=ACCENT, label="training, smoothed", linewidth=2)
    steps, values = line(points, VALIDATION + "loss")
    if steps:
        axes.plot(steps, values, color=SECOND, marker="o", label="validation", linewidth=2)
    _mark_kept(axes, kept)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def validation_curve(axes: Axes, points: Points, kept: float | None = None) -> None:
    """Plots the validation metrics that are fractions, each with its value at the step whose weights were kept.

    Args:
        axes: Where to plot.
        points: The history of the training.
        kept: The step whose weights were kept; None takes the last one.
    """
    for name, colour in zip(validation_fractions(points), (SECOND, ACCENT, MUTED), strict=False):
        steps, values = line(points, name)
        value = dict(zip(steps, values, strict=True)).get(kept or steps[-1], values[-1])
        label = name.removeprefix(VALIDATION).replace("_", " ")
        axes.plot(steps, values, color=colour, marker="o", linewidth=2, label=f"{label} {100 * value:.1f} %")
    _mark_kept(axes, kept)
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low - 0.02), min(1.01, high + 0.02))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlim(left=0)
    axes.set_xlabel("step")
    axes.legend(loc="lower right")


def learning_rate_curve(axes: Axes, points: Points) -> None:
    """Plots the learning rate of each step."""
    steps, values = line(points, "learning_rate")
    axes.plot(steps, values, color=ACCENT, linewidth=2)
    axes.fill_between(steps, values, color=ACCENT, alpha=0.12, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set_xlabel("step")


def gradient_curve(axes: Axes, points: Points) -> None:
    """Plots the norm of the gradients before clipping, by step."""
    steps, values = line(points, "grad_norm")
    axes.plot(steps, values, color=ACCENT, alpha=0.3, linewidth=1)
    axes.plot(steps, _smoothed(values), color=ACCENT, linewidth=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")


def _mark_kept(axes: Axes, step: float | None) -> None:
    if step is not None:
        axes.axvline(step, color=MUTED, linestyle=":", linewidth=1.5, label=f"kept: step {step:.0f}")


def _smoothed(values: Sequence[float]) -> list[float]:
    """Returns an exponential moving average, since the loss differs between batches of short and of long texts."""
    means = [values[0]]
    for value in values[1:]:
        means.append(0.8 * means[-1] + 0.2 * value)
    return means
