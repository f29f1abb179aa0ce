"""Parts of the test: by length, label and whatever columns there are, the worst first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from miniml.evaluation.predictions import Predictions
from miniml.evaluation.quarters import MISSING
from miniml.evaluation.result import Slice
from miniml.evaluation.slices import MAX_VALUES, OTHERS, slices_of
from miniml.tasks.single_label.predictions import SingleLabelPredictions


def predictions(right: list[bool], tokens: list[int] | None = None, **columns: list[Any]) -> Predictions:
    references = np.arange(len(right)) % 2
    answers = np.where(right, references, 1 - references)
    shares = np.eye(2, dtype=np.float32)[answers]
    return SingleLabelPredictions(
        labels=("bad", "good"),
        texts=[f"text {row}" for row in range(len(right))],
        references=references,
        probabilities=shares,
        logits=shares,
        tokens=np.array(tokens or [7] * len(right)),
        model_digest="m",
        data_fingerprint="d",
        columns=columns,
    )


def cut_by(column: str, parts: list[Slice]) -> dict[str, int]:
    return {part.value: part.rows for part in parts if part.column == column}


def test_the_worst_part_comes_first_with_its_size_and_interval() -> None:
    right = [row >= 40 for row in range(400)]  # wrong on all of "dirty", right elsewhere
    source = ["dirty"] * 40 + ["clean"] * 360
    large, small = slices_of(predictions(right, source=source), max_length=64, min_rows=30)
    assert (large[0].column, large[0].value, large[0].rows, large[0].accuracy.value) == (
        "source",
        "dirty",
        40,
        0,
    )
    assert large[0].accuracy.high == pytest.approx(0.0876, abs=1e-4)  # Wilson's of 0 in 40
    assert [part.accuracy.value for part in large] == sorted(part.accuracy.value for part in large)
    assert cut_by("label", large) == {"bad": 200, "good": 200}
    assert small == []


def test_lengths_are_cut_into_quarters_and_those_that_the_model_does_not_read_whole_say_so() -> None:
    large, _ = slices_of(
        predictions([True] * 100, tokens=list(range(1, 61)) + [70] * 40), max_length=64, min_rows=5
    )
    assert cut_by("length", large) == {
        "1 to 25 tokens": 25,
        "26 to 50 tokens": 25,
        "51 to 70 tokens, cut to 64": 50,
    }


def test_parts_of_too_few_rows_stand_apart_and_the_whole_is_no_part() -> None:
    large, small = slices_of(
        predictions([True] * 100, source=["a"] * 95 + ["b"] * 5), max_length=64, min_rows=30
    )
    assert cut_by("source", large) == {"a": 95}
    assert cut_by("source", small) == {"b": 5}
    assert cut_by("length", large + small) == {}


def test_a_column_of_many_values_is_bounded_and_one_of_many_numbers_is_cut_by_size() -> None:
    names = [f"user {row % 50}" for row in range(100)]
    amounts: list[Any] = [row / 2 for row in range(99)] + [None]
    large, small = slices_of(
        predictions([True] * 100, user=names, amount=amounts, verified=[row % 3 == 0 for row in range(100)]),
        max_length=64,
        min_rows=1,
    )
    users = cut_by("user", large)
    assert len(users) == MAX_VALUES + 1
    assert users[OTHERS] == 100 - 2 * MAX_VALUES
    assert cut_by("amount", large) == {
        "0 to 11.5": 24,
        "12 to 24": 25,
        "24.5 to 36.5": 25,
        "37 to 49": 25,
        MISSING: 1,
    }
    assert cut_by("verified", large) == {"True": 34, "False": 66}
    assert small == []


@pytest.mark.parametrize(
    "values", [[None] * 4, [float("nan")] * 4, [["a"], [], None, ["b"]], [1, "x", None, 2.5]]
)
def test_columns_of_any_kind_are_taken(values: list[Any]) -> None:
    large, _ = slices_of(predictions([True, False, True, False], odd=values), max_length=64, min_rows=1)
    assert sum(cut_by("odd", large).values()) in (0, 4)
