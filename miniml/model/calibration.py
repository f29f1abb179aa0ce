"""Fits the temperature that calibrates a model's probabilities, and keeps it in `calibration.json`.

A fine-tuned classifier is mostly overconfident. Dividing its logits by one number, fitted on validation rows, corrects
most of that. It changes no answer, because the order of the classes stays: Guo et al., "On Calibration of Modern Neural
Networks", 2017, https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from miniml.errors import ModelFolderError

Logits = npt.NDArray[np.float32]

CALIBRATION_NAME = "calibration.json"
# One number needs no more rows than these, and each costs a pass of the model.
CALIBRATION_ROWS = 2000
# Bounds of the temperature. Beyond them, validation only says "always right" or "no better than guessing".
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
# Halvings of the range of log(temperature): its six units shrink to 1e-9.
STEPS = 32


def fit_temperature(logits: Logits, labels: Sequence[int]) -> float:
    """Returns the temperature of the least log loss on some rows.

    The labels are smoothed by 1 / (rows + 1), so that a model that is right on every row is taken to err about once in
    as many rows. Platt's prior does the like: Lin et al., "A Note on Platt's Probabilistic Outputs for Support Vector
    Machines", 2007, https://doi.org/10.1007/s10994-007-5018-6

    Args:
        logits: The model's logits, shape [rows, labels].
        labels: The index of each row's class.
    """
    scores = logits.astype(np.float64)
    rows = len(scores)
    unknown = 1 / (rows + 1)
    wanted = (1 - unknown) * scores[np.arange(rows), labels] + unknown * scores.mean(axis=1)
    return _solve_for_temperature(
        wanted, lambda temperature: (softmax(scores / temperature) * scores).sum(axis=1)
    )


def fit_temperature_of_several(logits: Logits, given: npt.NDArray[np.bool_]) -> float:
    """Returns the same temperature for a model whose labels are independent of each other.

    Args:
        logits: The model's logits, shape [rows, labels].
        given: Whether each row has each label, of the same shape.
    """
    scores = logits.astype(np.float64)
    unknown = 1 / (len(scores) + 1)
    wanted = ((1 - unknown) * given + unknown / 2) * scores
    return _solve_for_temperature(wanted, lambda temperature: logistic(scores / temperature) * scores)


def _solve_for_temperature(
    wanted: npt.NDArray[np.floating], expected: Callable[[float], npt.NDArray[np.floating]]
) -> float:
    """Finds the temperature at which the mean of the expected logits is that of the labels' logits, by bisection.

    The log loss is convex in 1 / temperature, and the difference of the two means is its slope: it has one zero.

    Args:
        wanted: The labels' logits, by row.
        expected: Gives the logits that the probabilities at a temperature lead one to expect, by row.
    """
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if expected(math.exp(middle)).mean() > wanted.mean():  # Overconfident.
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def remark_on(temperature: float) -> str:
    """Returns, in words, what a temperature at one of its bounds says of the model; empty for any other."""
    if math.isclose(temperature, MAX_TEMPERATURE, rel_tol=1e-3):
        return "the highest there is: on validation the model's answers are no better than guessing"
    if math.isclose(temperature, MIN_TEMPERATURE, rel_tol=1e-3):
        return "the lowest there is: on validation the model is right far more often than its own probabilities say"
    return ""


def logistic(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Applies the logistic function, element by element."""
    found: npt.NDArray[np.floating] = (1 + np.tanh(logits / 2)) / 2  # tanh never overflows.
    return found


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Applies the softmax function along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: npt.NDArray[np.floating] = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def write(model_dir: Path, temperature: float, rows: int) -> None:
    """Writes `calibration.json`.

    Args:
        model_dir: The model folder.
        temperature: The temperature.
        rows: The number of validation rows that it was fitted on.
    """
    content = {"temperature": temperature, "rows": rows}
    (model_dir / CALIBRATION_NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read(model_dir: Path) -> float:
    """Reads the temperature; 1, which changes nothing, where the folder has no `calibration.json`.

    Raises:
        ModelFolderError: the file holds no temperature, or one that is not above 0.
    """
    path = model_dir / CALIBRATION_NAME
    if not path.exists():
        return 1.0
    try:
        temperature = float(json.loads(path.read_bytes())["temperature"])
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(model_dir, f"has no temperature ({error!r})") from error
    if not (math.isfinite(temperature) and temperature > 0):
        raise _refused(model_dir, f"has temperature {temperature}, which must be above 0")
    return temperature


def _refused(model_dir: Path, reason: str) -> ModelFolderError:
    return ModelFolderError(
        f"model folder {model_dir} is refused: {CALIBRATION_NAME} {reason}. Train again, or leave the file out and "
        f"sign the folder without it."
    )
