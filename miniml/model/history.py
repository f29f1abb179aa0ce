"""What a training went through, as `training_history.json` in the model folder holds it.

A list of points as transformers' Trainer logs them: {"step", "loss", "grad_norm", "learning_rate"} while it learns,
{"step", "eval_loss", "eval_accuracy", ...} where it looks at validation.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from miniml.metrics import more_is_better

HISTORY_NAME = "training_history.json"
Points = list[dict[str, float]]

VALIDATION = "eval_"
"""Begins the names of what was found on validation."""
# What transformers adds to the validation figures, which are no figures of the model.
_NO_FIGURES = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


def read_history(model_dir: Path) -> Points:
    """The points of the training curve, or none where the model folder has no history."""
    path = model_dir / HISTORY_NAME
    points: Points = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return points


def line(points: Points, name: str) -> tuple[list[float], list[float]]:
    """The steps at which the history has `name`, and its values there."""
    found = [(point["step"], point[name]) for point in points if name in point]
    return [step for step, _ in found], [value for _, value in found]


def is_figure(name: str) -> bool:
    """Whether that name of a point is of a figure of the model, found on validation."""
    return name.startswith(VALIDATION) and name not in _NO_FIGURES


def validation_shares(points: Points) -> list[str]:
    """The names of validation's figures that lie between 0 and 1, and are better when higher."""
    names = dict.fromkeys(name for point in points for name in point if is_figure(name))
    names.pop("eval_loss", None)
    return [
        name
        for name in names
        if more_is_better(name) and all(0 <= value <= 1 for value in line(points, name)[1])
    ]


def chance_points(rows: int) -> float:
    """By how many percentage points a share measured on `rows` may be off by chance, at most (95 % interval)."""
    return 98 / math.sqrt(rows)
