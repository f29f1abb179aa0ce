"""Computes the primary metric on slices of the test: short texts, one class, one source."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from miniml.escaping import clipped
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.quarters import MISSING, Mask, quarters
from miniml.evaluation.result import Estimate, Slice
from miniml.metrics import more_is_better

# Values of a column that get a slice each; the rest is put together.
MAX_VALUES = 20
OTHERS = "(all other values)"
# Characters of a value that are shown.
MAX_CHARACTERS = 80


def slices_of(predictions: Predictions, max_length: int, min_rows: int) -> tuple[list[Slice], list[Slice]]:
    """Computes the task's primary metric on slices of the test.

    The test is cut by length in tokens, by label, and by every further column: numbers into quarters, words into their
    most frequent values.

    Args:
        predictions: The answers to the test.
        max_length: The number of tokens that texts are cut to.
        min_rows: The rows that a slice needs to be judged by.

    Returns:
        The slices of at least `min_rows` rows, the worst first, and the smaller ones, the largest first.
    """
    found = []
    for column, value, inside in _parts(predictions, max_length):
        rows = int(inside.sum())
        if rows == len(inside):
            continue  # The whole test is no slice.
        found.append(Slice(column, value, rows, Estimate(*predictions.primary_metric(inside))))
    large = [part for part in found if part.rows >= min_rows]
    small = [part for part in found if part.rows < min_rows]
    better = 1 if more_is_better(predictions.task.primary_metric) else -1
    return (
        sorted(large, key=lambda part: (better * part.figure.value, -part.rows)),
        sorted(small, key=lambda part: -part.rows),
    )


def _parts(predictions: Predictions, max_length: int) -> Iterator[tuple[str, str, Mask]]:
    for value, inside in quarters(predictions.tokens.astype(np.float64), whole=True):
        cut = f", cut to {max_length}" if predictions.tokens[inside].max() > max_length else ""
        yield "length", f"{value} tokens{cut}", inside
    for value, inside in predictions.parts():
        yield "label", value, inside
    for column, values in predictions.columns.items():
        for value, inside in _by_value(values):
            yield column, value, inside


def _by_value(values: Sequence[Any]) -> Iterator[tuple[str, Mask]]:
    present = [value for value in values if value is not None]
    numbers = bool(present) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in present
    )
    if numbers and len(set(present)) > MAX_VALUES:
        yield from quarters(
            np.array([np.nan if value is None else value for value in values], dtype=np.float64),
            whole=all(float(value).is_integer() for value in present if np.isfinite(value)),
        )
        return
    words = np.array([_as_word(value) for value in values], dtype=object)
    counts = Counter(words.tolist()).most_common()
    for value, _ in counts[:MAX_VALUES]:
        yield value, words == value
    if rest := {value for value, _ in counts[MAX_VALUES:]}:
        yield OTHERS, np.array([word in rest for word in words])


def _as_word(value: Any) -> str:
    if value is None or value == "":
        return MISSING
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    return clipped(text, MAX_CHARACTERS)
