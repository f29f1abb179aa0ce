"""The evaluation as one HTML file: nothing external, light and dark, its pictures drawn as SVG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes

from miniml import __version__
from miniml.drawing import ACCENT, INK, SECOND, shortened, svg, template
from miniml.evaluation_result import EvaluationResult
from miniml.manifest import Manifest

# More classes than this make the cells of a confusion matrix too small to hold their counts.
MOST_CLASSES_WITH_COUNTS = 20


def write_report(
    result: EvaluationResult, model: Manifest, history: list[dict[str, float]], path: Path
) -> None:
    """Writes the page to `path`. `history` holds the points of the training curve (`miniml.training`)."""
    page = template("report.html").render(
        version=__version__,
        result=result,
        model=model,
        arguments={**model.arguments.get("data", {}), **model.arguments.get("training", {})},
        training_curve=svg(lambda axes: _training_curve(axes, history), (7.0, 2.8)),
        class_scores=svg(lambda axes: _class_scores(axes, result), (7.0, 0.8 + 0.45 * len(result.classes))),
        confusion=svg(lambda axes: _confusion_matrix(axes, result), _matrix_size(result)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def read_history(model_dir: Path) -> list[dict[str, float]]:
    """The points of the training curve, or none where the model folder has no history."""
    path = model_dir / "training_history.json"
    points: list[dict[str, float]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return points


def _training_curve(axes: Axes, history: list[dict[str, float]]) -> None:
    losses = [(point["step"], point["loss"]) for point in history if "loss" in point]
    validations = [(point["step"], point["eval_loss"]) for point in history if "eval_loss" in point]
    if losses:
        steps, values = zip(*losses, strict=True)
        axes.plot(steps, values, color=ACCENT, alpha=0.3, linewidth=1)
        axes.plot(steps, _smoothed(values), color=ACCENT, label="training, smoothed", linewidth=2)
    if validations:
        axes.plot(*zip(*validations, strict=True), color=SECOND, marker="o", label="validation", linewidth=2)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    if losses or validations:
        axes.legend()


def _smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean: batches of like length make single steps swing."""
    means = [values[0]]
    for value in values[1:]:
        means.append(0.8 * means[-1] + 0.2 * value)
    return means


def _class_scores(axes: Axes, result: EvaluationResult) -> None:
    names = [shortened(scores.label) for scores in result.classes]
    positions = range(len(names))
    for offset, colour, label, values in (
        (-0.2, ACCENT, "precision", [scores.precision for scores in result.classes]),
        (0.2, SECOND, "recall", [scores.recall for scores in result.classes]),
    ):
        bars = axes.barh([p + offset for p in positions], values, height=0.36, color=colour, label=label)
        axes.bar_label(bars, fmt="%.2f", padding=3, color=INK, fontsize=9)
    axes.set_yticks(list(positions), names, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _matrix_size(result: EvaluationResult) -> tuple[float, float]:
    side = min(9.0, 2.4 + 0.6 * len(result.classes))
    return side + 0.8, side


def _confusion_matrix(axes: Axes, result: EvaluationResult) -> None:
    names = [shortened(scores.label) for scores in result.classes]
    positions = list(range(len(names)))
    for row, counts in enumerate(result.confusion_matrix):
        for column, count in enumerate(counts):
            share = count / max(1, sum(counts))
            # At most half opaque, so that the ink on it stays readable in light and dark.
            colour = ACCENT if row == column else SECOND
            axes.add_patch(
                mpl.patches.Rectangle(
                    (column - 0.48, row - 0.48), 0.96, 0.96, color=colour, alpha=0.5 * share
                )
            )
            if len(names) <= MOST_CLASSES_WITH_COUNTS:
                axes.text(column, row, f"{count:,}\n{share:.0%}", ha="center", va="center", fontsize=9)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks(positions, names, rotation=45 if len(names) > 3 else 0, color=INK)
    axes.set_yticks(positions, names, color=INK)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
