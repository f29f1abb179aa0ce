"""Figures that are right, on rows that training never saw, and what else there is to know of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

from miniml.data import preparation, prepared
from miniml.errors import InputError
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import EvaluationResult
from miniml.model.classifier import Classifier
from miniml.settings.data import DataSettings
from miniml.settings.evaluation import EvaluationSettings
from miniml.settings.training import TrainingSettings
from miniml.tasks import SingleLabelPrediction
from miniml.tasks.single_label.evaluator import ranks_of
from miniml.training.fine_tune import fine_tune


@pytest.fixture(scope="module")
def result(model_dir: Path, dataset_dir: Path) -> EvaluationResult:
    return evaluate_model(model_dir, dataset_dir)


def test_the_accuracy_is_that_of_the_classifier_on_the_test(
    result: EvaluationResult, model_dir: Path, dataset_dir: Path
) -> None:
    test = prepared.load(dataset_dir, ("test",))[0]["test"]
    answers = Classifier.load(model_dir, SingleLabelPrediction).predict(list(test["text"]))
    names = test.features["label"].names
    right = sum(answer.label == names[label] for answer, label in zip(answers, test["label"], strict=True))
    assert result.accuracy.value == right / len(test)
    assert result.test_rows == len(test) == sum(map(sum, result.confusion_matrix))
    assert [scores.label for scores in result.classes] == ["bad", "good"]
    assert result.accuracy.low < result.accuracy.value <= result.accuracy.high


def test_figures_survive_the_disk(result: EvaluationResult, tmp_path: Path) -> None:
    result.save(tmp_path / "metrics")
    assert EvaluationResult.read(tmp_path / "metrics") == result
    json.loads((tmp_path / "metrics").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_another_dataset_than_the_model_was_trained_on_is_refused(
    model_dir: Path, reviews: Path, tmp_path: Path
) -> None:
    preparation.prepare(
        DataSettings(dataset_id=str(reviews), label_names="bad,good", seed=7), tmp_path / "other"
    )
    with pytest.raises(InputError, match="its test rows may have been training rows"):
        evaluate_model(model_dir, tmp_path / "other")


def test_every_figure_has_an_interval_and_the_baseline_has_the_same_figures(result: EvaluationResult) -> None:
    assert set(result.figures) == set(result.baseline) == {
        "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "log_loss", "roc_auc", "pr_auc",
        "calibration_error",
    }  # fmt: skip
    for figures in (result.figures, result.baseline):
        assert all(figure.low <= figure.value <= figure.high for figure in figures.values())
    assert "216 training rows" in result.baseline_name
    assert result.baseline_comparison
    assert result.baseline_comparison.champion_accuracy == result.baseline["accuracy"].value
    gain = result.accuracy.value - result.baseline["accuracy"].value
    assert result.baseline_comparison.gain.value == pytest.approx(gain)


def test_the_effect_of_the_temperature_is_told(result: EvaluationResult, model_dir: Path) -> None:
    assert result.calibration
    assert result.calibration.temperature == Classifier.load(model_dir).temperature
    assert result.calibration.calibration_error_after == pytest.approx(
        result.figures["calibration_error"].value
    )
    assert result.calibration.log_loss_after == pytest.approx(result.figures["log_loss"].value)
    for bins in (result.calibration.before, result.calibration.after):
        assert sum(one.rows for one in bins) == result.test_rows


def test_curves_are_finite_and_rise(result: EvaluationResult) -> None:
    assert result.curves
    for rising in (result.curves.false_positive_rate, result.curves.recall):
        assert rising == sorted(rising)
        assert rising[-1] == 1
    assert result.curves.thresholds == sorted(result.curves.thresholds, reverse=True)
    assert 0 <= min(result.curves.thresholds) <= max(result.curves.thresholds) <= 1
    assert 0 < min(result.curves.precision) <= 1


def test_the_model_is_timed(result: EvaluationResult) -> None:
    assert result.speed
    assert 0 < result.speed.p50_ms <= result.speed.p95_ms
    assert result.texts_per_second > 0
    scalars = result.scalars()
    assert scalars["latency_p95_ms"] == result.speed.p95_ms
    assert scalars["baseline_macro_f1"] == result.baseline["macro_f1"].value


@pytest.fixture(scope="module")
def with_columns(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, with a column of its source and half of the test's labels turned, so that there are mistakes."""
    folder = tmp_path_factory.mktemp("columns") / "dataset"
    shutil.copytree(dataset_dir, folder)
    test = datasets.load_from_disk(str(dataset_dir / "test"))
    site = ["forum" if row < 30 else "shop" for row in range(len(test))]
    labels = [
        1 - label if place == "forum" else label for label, place in zip(test["label"], site, strict=True)
    ]
    columns = {"text": list(test["text"]), "label": labels, "site": site}
    features = datasets.Features({**test.features, "site": datasets.Value("string")})
    shutil.rmtree(folder / "test")
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(folder / "test"))
    return folder


def test_a_column_of_the_test_is_a_slice_and_stands_in_the_predictions(
    model_dir: Path, with_columns: Path, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.parquet"
    result = evaluate_model(model_dir, with_columns, EvaluationSettings(min_slice_rows=10), path)
    worst = result.slices[0]
    assert (worst.column, worst.value, worst.rows) == ("site", "forum", 30)
    assert worst.accuracy.value < 0.2
    predictions = Predictions.read(path)
    assert predictions.columns["site"][0] == "forum"
    assert (
        predictions.correct[[site == "forum" for site in predictions.columns["site"]]].mean()
        == worst.accuracy.value
    )


@pytest.fixture(scope="module")
def with_groups(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset as transform writes it with a group_column: each split has the number of each row's group."""
    folder = tmp_path_factory.mktemp("groups") / "dataset"
    shutil.copytree(dataset_dir, folder)
    test = datasets.load_from_disk(str(dataset_dir / "test"))
    features = datasets.Features({**test.features, "group": datasets.Value("int64")})
    columns = {"text": list(test["text"]), "label": list(test["label"]), "group": np.arange(len(test)) // 6}
    shutil.rmtree(folder / "test")
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(folder / "test"))
    return folder


def test_groups_stand_in_the_predictions_and_widen_the_intervals(
    result: EvaluationResult, model_dir: Path, with_groups: Path, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.parquet"
    found = evaluate_model(model_dir, with_groups, predictions_path=path)
    predictions = Predictions.read(path)
    assert predictions.groups is not None
    assert predictions.groups.tolist() == [row // 6 for row in range(found.test_rows)]
    assert (predictions.columns, found.groups) == ({}, -(-found.test_rows // 6))
    assert not any(part.column == "group" for part in [*found.slices, *found.small_slices])
    assert found.figures["accuracy"].value == result.figures["accuracy"].value
    assert found.figures["accuracy"].low < result.figures["accuracy"].low


def test_one_answer_for_every_text_is_compared_with(result: EvaluationResult) -> None:
    assert result.majority_comparison
    assert result.majority_comparison.champion_figure == pytest.approx(0.5, abs=0.1)
    assert result.majority_comparison.p_value < 0.001


def test_the_surest_mistakes_come_first_and_their_words_say_why(
    tmp_path: Path, encoder: Path, with_columns: Path
) -> None:
    # Of three words that say the same, one who has learned long is as sure without any one of them.
    barely = TrainingSettings(model_id=str(encoder), iterations=4, batch_size=16, max_length=32)
    fine_tune(with_columns, tmp_path / "model", barely)
    result = evaluate_model(tmp_path / "model", with_columns)
    assert result.mistakes
    surest = [mistake.score for mistake in result.mistakes]
    assert surest == sorted(surest, reverse=True)
    texts = datasets.load_from_disk(str(with_columns / "test"))["text"]
    for mistake in result.mistakes:
        assert mistake.label != mistake.predicted
        assert "".join(piece.text for piece in mistake.pieces) == texts[mistake.row]
        assert any(piece.effect for piece in mistake.pieces)


@pytest.mark.parametrize(
    ("labels", "ordered", "expected"),
    [
        (["1 star", "2 stars", "3 stars"], "auto", [0, 1, 2]),
        (["10", "2", "-1", "2.5"], "auto", [3, 1, 0, 2]),
        (["1 star", "2 stars", "3 stars"], "no", None),
        (["bad", "fine", "good"], "auto", None),
        (["bad", "fine", "good"], "yes", [0, 1, 2]),
        (["0", "1"], "auto", None),
        (["1st", "2nd", "3rd"], "auto", None),
        (["1 a", "1 b", "2"], "auto", None),
    ],
)
def test_labels_are_ordered_where_they_begin_with_numbers_or_where_it_is_said(
    labels: list[str], ordered: str, expected: list[int] | None
) -> None:
    assert ranks_of(labels, ordered) == expected


def test_two_classes_cannot_be_said_to_be_ordered() -> None:
    with pytest.raises(InputError, match="ordered_labels is 'yes', but there are 2 classes"):
        ranks_of(["bad", "good"], "yes")
