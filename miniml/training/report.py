"""Writes the training as one HTML file, like the reports on data and evaluation: results, curves and settings.

The curves are drawn in `miniml/reports/curves.py`; the report on evaluation shows the same loss curve. `_pictures`
lists the curves of this page with their titles. The page's template is `miniml/reports/templates/training.html`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from miniml import __version__
from miniml.model import calibration
from miniml.model.history import Points, line, margin_of_error, validation_fractions
from miniml.model.manifest import Manifest
from miniml.progress import duration
from miniml.reports.curves import gradient_curve, learning_rate_curve, loss_curve, validation_curve
from miniml.reports.plots import svg, template
from miniml.settings.training import TrainingSettings
from miniml.task_registry import stored_task

# Inches. A WIDE picture takes the width of a screen; HALF ones stand in pairs, or alone on a phone.
WIDE, HALF = (9.4, 3.4), (4.3, 2.9)
# More bars would be too thin to read; the largest classes are shown.
MAX_CLASSES = 20

# The page opens with the first of these validation metrics where the task's primary metric is missing.
HEADLINES = ("accuracy", "macro_f1", "micro_f1", "r2", "spearman", "mean_absolute_error")
# Metrics that are shown in percent.
_FRACTIONS = ("accuracy", "subset_accuracy")


@dataclass(frozen=True)
class Setting:
    """One of the run's arguments."""

    name: str
    value: Any
    default: Any
    """Equals `value` where the setting was left alone."""


@dataclass(frozen=True)
class ClassRows:
    """A class with its numbers of rows; the widths of its bars are in percent of the largest class's."""

    label: str
    train: int
    validation: int
    train_width: float
    validation_width: float


def write_report(model: Manifest, points: Points, path: Path) -> None:
    """Writes the page.

    Args:
        model: The manifest of the model folder.
        points: The history of the training.
        path: The HTML file to write.
    """
    name, value = _headline(model)
    kept = _kept_before_the_end(model)
    page = template("training.html").render(
        version=__version__,
        model=model,
        headline=value,
        kept=kept,
        headline_name=name,
        tiles=_tiles(model),
        chance=margin_of_error(model.data["rows"]["validation"]) if name in _FRACTIONS else None,
        loss=[svg(lambda axes: loss_curve(axes, points, kept), size) for size in (WIDE, HALF)],
        pictures=_pictures(points, kept),
        shares_of_time=_shares_of_time(model, points),
        task=stored_task(model.data),
        classes=_classes(model),
        most_classes=MAX_CLASSES,
        settings=_settings(model),
        used=model.arguments["used"],
        temperature_remark=calibration.remark_on(model.metrics.get("temperature", 1.0)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _kept_before_the_end(model: Manifest) -> float | None:
    """Returns the step whose weights were kept; None where it is the last one."""
    kept = model.metrics["kept_step"]
    return kept if kept < model.metrics["steps"] else None


def _headline(model: Manifest) -> tuple[str, str]:
    for name in (stored_task(model.data).primary_metric, *HEADLINES):
        if (value := model.metrics.get(f"validation_{name}")) is not None:
            return name.replace("_", " "), f"{100 * value:.1f} %" if name in _FRACTIONS else f"{value:.3f}"
    return "loss", f"{model.metrics['validation_loss']:.3f}"


def _tiles(model: Manifest) -> list[tuple[str, str]]:
    metrics = model.metrics
    tiles = [
        ("Trained in", duration(metrics["train_seconds"])),
        ("Texts/s", f"{metrics['train_samples_per_second']:,.1f}"),
        ("Steps", f"{metrics['steps']:,.0f}"),
        ("Passes over the data", f"{metrics['epochs']:.2f}"),
        ("Training loss, mean", f"{metrics['train_loss']:.3f}"),
        ("Validation loss", f"{metrics['validation_loss']:.3f}"),
        ("Parameters", _counted(metrics["parameters"])),
        ("of them learning", f"{100 * metrics['trained_parameters'] / metrics['parameters']:.0f} %"),
    ]
    if (peak := metrics.get("peak_gpu_mib")) is not None:
        tiles.append(("GPU memory at its peak", f"{peak / 1024:.1f} GiB"))
    if (share := metrics.get("gpu_utilization")) is not None:
        tiles.append(("of the GPU's peak rate", f"{100 * share:.0f} %"))
    return tiles


def _counted(number: float) -> str:
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _pictures(points: Points, kept: float | None) -> list[tuple[str, Markup]]:
    """Returns the titles and pictures of the curves besides the loss, as far as the history has them."""
    paints: list[tuple[str, bool, Callable[[Axes], None]]] = [
        (
            "On validation",
            bool(validation_fractions(points)),
            lambda axes: validation_curve(axes, points, kept),
        ),
        (
            "Learning rate",
            bool(line(points, "learning_rate")[0]),
            lambda axes: learning_rate_curve(axes, points),
        ),
        (
            "Norm of the gradients",
            bool(line(points, "grad_norm")[0]),
            lambda axes: gradient_curve(axes, points),
        ),
    ]
    return [(title, svg(paint, HALF)) for title, has_points, paint in paints if has_points]


def _shares_of_time(model: Manifest, points: Points) -> list[tuple[str, float, str]]:
    """Returns how the time was spent: names, percents and durations."""
    total = model.metrics["train_seconds"]
    validating = min(total, sum(line(points, "eval_runtime")[1]))
    parts = (("learning", total - validating), ("validation", validating))
    return [(name, 100 * seconds / total, duration(seconds)) for name, seconds in parts if total]


def _classes(model: Manifest) -> list[ClassRows]:
    """Returns the largest classes, the largest first."""
    train, validation = (model.data["rows_per_class"][split] for split in ("train", "validation"))
    most = max((train[label] + validation[label] for label in train), default=0) or 1
    rows = [
        ClassRows(
            label,
            train[label],
            validation[label],
            100 * train[label] / most,
            100 * validation[label] / most,
        )
        for label in model.data["labels"]
    ]
    return sorted(rows, key=lambda one: -one.train)[:MAX_CLASSES]


def _settings(model: Manifest) -> tuple[list[Setting], list[Setting]]:
    """Returns the settings that differ from their defaults, and the others that are not empty."""
    defaults = {field.name: field.default for field in dataclasses.fields(TrainingSettings)}
    settings = [
        Setting(name, value, defaults.get(name, value)) for name, value in model.arguments["training"].items()
    ]
    changed = [one for one in settings if one.value != one.default]
    return changed, [one for one in settings if one.value == one.default and one.value != ""]
