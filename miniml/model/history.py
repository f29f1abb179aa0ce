"""Reads `training_history.json` in the model folder: the loss and the validation metrics during training.

It is a list of points as transformers' Trainer logs them: {"step", "loss", "grad_norm", "learning_rate"} in training,
{"step", "eval_loss", "eval_accuracy", ...} at a validation.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from miniml.metrics import more_is_better

HISTORY_NAME = "training_history.json"
Points = list[dict[str, float]]

VALIDATION = "eval_"
"""The prefix of the names that belong to validation."""
# Names with that prefix that are no metrics of the model.
_NOT_METRICS = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


def read_history(model_dir: Path) -> Points:
    """Reads the points of the training curve; none where the model folder has no history."""
    path = model_dir / HISTORY_NAME
    points: Points = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return points


def line(points: Points, name: str) -> tuple[list[float], list[float]]:
    """Returns the steps at which the history has `name`, and its values there."""
    found = [(point["step"], point[name]) for point in points if name in point]
    return [step for step, _ in found], [value for _, value in found]


def is_metric(name: str) -> bool:
    """Whether a point's entry of this name is a metric on validation."""
    return name.startswith(VALIDATION) and name not in _NOT_METRICS


def validation_fractions(points: Points) -> list[str]:
    """Returns the names of the validation metrics that lie between 0 and 1, and are better when higher."""
    names = dict.fromkeys(name for point in points for name in point if is_metric(name))
    names.pop("eval_loss", None)
    return [
        name
        for name in names
        if more_is_better(name) and all(0 <= value <= 1 for value in line(points, name)[1])
    ]


def margin_of_error(rows: int) -> float:
    """Returns the largest half-width of a fraction's 95 % interval, in percentage points.

    It is Wald's at a fraction of 1/2, 1.96 * sqrt(1/4 / rows):
    https://en.wikipedia.org/wiki/Margin_of_error
    """
    return 98 / math.sqrt(rows)
