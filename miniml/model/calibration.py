"""`calibration.json` in the model folder: the temperature that makes a probability mean what it says.

A fine-tuned classifier is mostly too sure of itself. Dividing its logits by one number, fitted on rows that it did
not learn from, mends most of that and changes no answer, for the order of the classes stays (Guo et al., 2017).
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
# Beyond these, the validation rows say no more than "always right" or "no better than guessing".
COLDEST, HOTTEST = 0.05, 20.0
# Halvings of the range of log(temperature): its six units shrink to 1e-9.
STEPS = 32


def fit_temperature(logits: Logits, labels: Sequence[int]) -> float:
    """The temperature under which `logits`, shape [rows, labels], are likeliest to have come with `labels`.

    As if there were one more row, of which nothing is known: where the model is right on every row, it is not taken
    for infallible, but for one that errs about once in as many rows.
    """
    scores = logits.astype(np.float64)
    rows = len(scores)
    unknown = 1 / (rows + 1)
    wanted = (1 - unknown) * scores[np.arange(rows), labels] + unknown * scores.mean(axis=1)
    return _where_expected(wanted, lambda temperature: (softmax(scores / temperature) * scores).sum(axis=1))


def fit_temperature_of_several(logits: Logits, given: npt.NDArray[np.bool_]) -> float:
    """The same where each label stands by itself: `given` says which a row has, shape [rows, labels]."""
    scores = logits.astype(np.float64)
    unknown = 1 / (len(scores) + 1)
    wanted = ((1 - unknown) * given + unknown / 2) * scores
    return _where_expected(wanted, lambda temperature: logistic(scores / temperature) * scores)


def _where_expected(
    wanted: npt.NDArray[np.floating], expected: Callable[[float], npt.NDArray[np.floating]]
) -> float:
    """The temperature at which the logits that the probabilities make one expect are those of the labels.

    The log loss is convex in 1 / temperature, and their difference is its slope there: it has one zero.
    """
    cold, hot = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(STEPS):
        middle = (cold + hot) / 2
        if expected(math.exp(middle)).mean() > wanted.mean():  # too sure
            cold = middle
        else:
            hot = middle
    return math.exp((cold + hot) / 2)


def remark_on(temperature: float) -> str:
    """What a temperature at one of its bounds says of the model; empty for any other."""
    if math.isclose(temperature, HOTTEST, rel_tol=1e-3):
        return "the highest there is: on validation the model's answers are no better than guessing"
    if math.isclose(temperature, COLDEST, rel_tol=1e-3):
        return "the lowest there is: on validation the model is right far more often than its own probabilities say"
    return ""


def logistic(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The probability of each of `logits` by itself."""
    found: npt.NDArray[np.floating] = (1 + np.tanh(logits / 2)) / 2  # which overflows for none
    return found


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Probabilities of `logits`, along the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: npt.NDArray[np.floating] = shifted / shifted.sum(axis=-1, keepdims=True)
    return found


def write(model_dir: Path, temperature: float, rows: int) -> None:
    """Keeps the temperature, and on how many validation rows it was fitted."""
    content = {"temperature": temperature, "rows": rows}
    (model_dir / CALIBRATION_NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read(model_dir: Path) -> float:
    """The temperature; 1, which changes nothing, where the folder has no such file.

    Raises:
        ModelFolderError: what stands there is no temperature.
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
