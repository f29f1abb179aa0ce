"""Figures of models with several labels a text, or a number, equal to scikit-learn's and scipy's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as theirs
from scipy.stats import spearmanr

from miniml.tasks.multi_label.metrics import MultiLabelScores
from miniml.tasks.regression.metrics import RegressionScores


def values(scores: Any) -> dict[str, float]:
    assert all(low <= value <= high for value, low, high in scores["figures"].values())
    json.dumps(scores, allow_nan=False)
    return {name: value for name, (value, _, _) in scores["figures"].items()}


def test_several_labels_a_text_are_scored_as_scikit_learn_does() -> None:
    draw = np.random.default_rng(0)
    true = (draw.random((300, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(np.float32)
    found = np.clip(0.6 * true + 0.5 * draw.random((300, 4)), 0, 1).astype(np.float32)
    given = found >= 0.5
    scores = MultiLabelScores().compute(predictions=found, references=true)
    assert values(scores) == pytest.approx(
        {
            "subset_accuracy": theirs.accuracy_score(true, given),
            "hamming_loss": theirs.hamming_loss(true, given),
            "micro_f1": theirs.f1_score(true, given, average="micro"),
            "macro_f1": theirs.f1_score(true, given, average="macro", zero_division=0.0),
        }
    )
    assert [one["rows"] for one in scores["per_class"]] == true.sum(axis=0).tolist()


def test_numbers_are_scored_as_scikit_learn_and_scipy_do() -> None:
    draw = np.random.default_rng(0)
    true = np.round(draw.normal(3, 1, size=400), 1)  # rounded, so that many are equal
    found = np.round(true + draw.normal(0, 0.7, size=400), 1)
    scores = RegressionScores().compute(predictions=found, references=true)
    assert values(scores) == pytest.approx(
        {
            "mean_absolute_error": theirs.mean_absolute_error(true, found),
            "root_mean_squared_error": theirs.root_mean_squared_error(true, found),
            "r2": theirs.r2_score(true, found),
            "spearman": spearmanr(true, found).statistic,
        }
    )


@pytest.mark.parametrize("numbers", [[3.0], [2.0, 2.0, 2.0]])
def test_what_equal_numbers_do_not_tell_is_left_out(numbers: list[float]) -> None:
    scores = RegressionScores().compute(predictions=numbers, references=numbers)
    assert values(scores) == {"mean_absolute_error": 0, "root_mean_squared_error": 0}
    one = MultiLabelScores().compute(predictions=[[0.9, 0.1]], references=[[1.0, 0.0]])
    assert values(one)["subset_accuracy"] == 1
