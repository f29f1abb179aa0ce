"""What is served is what was tested: the same probabilities, on every row of the test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from miniml.data import preparation
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.predictions import Predictions
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune
from tests import tiny
from tests.conftest import TRAINING
from tests.predictor import Server, running

SAME = 1e-4


@pytest.fixture(scope="module")
def cold_model(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped as soon as it tells good from bad: it is mostly right by then, and not at all sure of it."""
    folder = tmp_path_factory.mktemp("cold")
    tiny.write_reviews(folder / "reviews.csv", rows=600)
    preparation.prepare(
        DataSettings(dataset_id=str(folder / "reviews.csv"), label_names="bad,good"), folder / "dataset"
    )
    settings = TrainingSettings(model_id=str(encoder), **{**TRAINING, "iterations": 20})
    fine_tune(folder / "dataset", folder / "model", settings)
    return folder / "model"


@pytest.fixture(scope="module")
def tested(cold_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    path = tmp_path_factory.mktemp("tested") / "predictions.parquet"
    result = evaluate_model(cold_model, cold_model.parent / "dataset", predictions_path=path)
    found = Predictions.read(path)
    assert found.correct.mean() == result.accuracy.value
    assert len(found.texts) == result.test_rows == 120
    return found


@pytest.fixture(scope="module")
def server(cold_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(cold_model, tmp_path_factory.mktemp("log") / "server.log", "--cache_entries=0") as server:
        yield server


def test_the_served_probabilities_equal_the_tested_ones_on_the_whole_test(
    server: Server, tested: Predictions
) -> None:
    assert abs(math.log(tested.temperature)) > math.log(1.5), tested.temperature
    answers = server.v1(tested.texts).json()["predictions"]
    served = np.array([[answer["probabilities"][label] for label in tested.labels] for answer in answers])
    assert np.abs(served - tested.probabilities).max() <= SAME
    assert [answer["label"] for answer in answers] == [tested.labels[place] for place in tested.predicted]


def test_without_the_calibration_they_would_differ(server: Server, tested: Predictions) -> None:
    shares = np.exp(tested.logits) / np.exp(tested.logits).sum(axis=1, keepdims=True)
    assert np.abs(shares - tested.probabilities).max() > 0.05
    one = server.post("/predict", {"text": tested.texts[0]}).json()
    assert list(one["probabilities"].values()) == pytest.approx(tested.probabilities[0].tolist(), abs=SAME)
