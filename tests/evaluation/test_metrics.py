"""Figures that equal scikit-learn's, with intervals that hold what they promise, quickly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics as theirs

from miniml.evaluation import bootstrap
from miniml.tasks.single_label import metrics as classification
from miniml.tasks.single_label.metrics import ClassificationScores

Case = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def made_up(rows: int, labels: int, seed: int = 0, digits: int = 7) -> Case:
    """A classifier that is right more often than not; with few `digits`, many rows share a probability."""
    draw = np.random.default_rng(seed)
    references = draw.integers(labels, size=rows)
    logits = draw.normal(size=(rows, labels)) + 1.5 * np.eye(labels)[references]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.round(shares, digits).astype(np.float32), references


def scores(case: Case, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = ClassificationScores().compute(predictions=case[0], references=case[1], **more)
    return found


def test_figures_of_a_hand_made_case_are_right() -> None:
    answers = np.array([0, 0, 0, 1, 1, 0, 2, 2, 2, 0])
    case = np.eye(3, dtype=np.float32)[answers] * 0.7 + 0.1, np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    found = scores(case, ranks=[0, 1, 2])
    figures = found["figures"]
    assert found["confusion_matrix"] == [[3, 1, 0], [1, 1, 0], [1, 0, 3]]
    assert figures["accuracy"][0] == pytest.approx(0.7)
    assert figures["balanced_accuracy"][0] == pytest.approx((3 / 4 + 1 / 2 + 3 / 4) / 3)
    assert found["per_class"][0] == pytest.approx(
        {"precision": 3 / 5, "recall": 3 / 4, "f1": 2 / 3, "rows": 4}
    )
    # Wilson's interval of 7 in 10, by hand: centre 0.6444, half width 0.2477.
    assert figures["accuracy"][1:] == pytest.approx([0.3968, 0.8922], abs=1e-4)
    assert figures["log_loss"][0] == pytest.approx(-0.7 * np.log(0.8) - 0.3 * np.log(0.1), abs=1e-6)
    # Of a gap of 0.1, ten answers of 80 % would show more by chance than a square of 0.01.
    assert figures["calibration_error"][:2] == (0.0, 0.0)
    assert figures["calibration_error"][2] > 0.1
    assert figures["mean_absolute_error"][0] == pytest.approx((1 + 1 + 2) / 10)
    assert figures["off_by_one_accuracy"][0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("labels", "digits"), [(2, 7), (5, 7), (5, 1)], ids=["two", "five", "five, many ties"]
)
def test_figures_equal_scikit_learns(labels: int, digits: int) -> None:
    shares, references = made_up(700, labels, digits=digits)
    answers, truths = shares.argmax(axis=1), np.eye(labels)[references]
    expected = {
        "accuracy": theirs.accuracy_score(references, answers),
        "balanced_accuracy": theirs.balanced_accuracy_score(references, answers),
        "macro_f1": theirs.f1_score(references, answers, average="macro"),
        "weighted_f1": theirs.f1_score(references, answers, average="weighted"),
        "mcc": theirs.matthews_corrcoef(references, answers),
        "roc_auc": theirs.roc_auc_score(truths, shares, average="macro"),
        "pr_auc": theirs.average_precision_score(truths, shares, average="macro"),
    }
    if digits == 7:  # rounded rows do not sum to 1, which scikit-learn's refuses
        expected["log_loss"] = theirs.log_loss(references, shares)
    found = {name: figure[0] for name, figure in scores((shares, references))["figures"].items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_a_resample_gives_what_scikit_learn_gives_on_the_rows_drawn() -> None:
    shares, references = made_up(200, 3, digits=2)
    rows = classification._Rows(shares.astype(np.float64), references)
    drawn = np.random.default_rng(1).integers(200, size=200)
    found = rows.scores(np.bincount(drawn, minlength=200)[None].astype(np.float64))
    again, truths = shares[drawn], np.eye(3)[references[drawn]]
    assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score(truths, again, average="macro"))
    assert found["pr_auc"] == pytest.approx(theirs.average_precision_score(truths, again, average="macro"))
    assert found["mcc"] == pytest.approx(theirs.matthews_corrcoef(references[drawn], again.argmax(axis=1)))


@pytest.mark.parametrize(
    "references",
    [[1], [0, 0, 0], [0, 1], [2, 2, 1, 2, 2, 2]],
    ids=["one row", "one class", "two rows", "rare"],
)
def test_what_cannot_be_told_is_left_out_without_a_warning(references: list[int]) -> None:
    shares = np.random.default_rng(0).dirichlet([1, 1, 1, 1], size=len(references)).astype(np.float32)
    figures = scores((shares, np.array(references)), ranks=[0, 1, 2, 3])["figures"]
    json.dumps(figures, allow_nan=False)
    assert ("roc_auc" in figures) == ("pr_auc" in figures) == (len(set(references)) > 1)
    assert all(low <= value <= high for value, low, high in figures.values())


def test_fifty_thousand_rows_of_five_classes_have_every_figure() -> None:
    assert len(scores(made_up(50_000, 5), ranks=range(5))["figures"]) == 11


def test_of_a_thousand_classes_few_confusion_matrices_are_held_at_once() -> None:
    shares, references = made_up(50, 1000)
    rows = classification._Rows(shares, references)
    drawn = next(bootstrap._draws(np.arange(50), rows))
    assert len(drawn) * rows.labels**2 <= bootstrap.BYTES_AT_ONCE / 4
