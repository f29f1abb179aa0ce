"""A temperature that makes probabilities honest, kept with the model and applied wherever it answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss

from miniml.errors import ModelFolderError
from miniml.model import calibration, manifest
from miniml.model.classifier import Classifier
from miniml.model.engines import Logits
from tests import tiny


def honest_logits(rows: int, spread: float = 2.0) -> tuple[Logits, list[int]]:
    """Logits of three classes, and labels drawn from the very probabilities that they stand for."""
    draw = np.random.default_rng(0)
    logits = draw.normal(scale=spread, size=(rows, 3)).astype(np.float32)
    shares = calibration.softmax(logits.astype(np.float64))
    return logits, [int(draw.choice(3, p=share)) for share in shares]


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_factor_that_makes_a_model_too_sure_or_too_modest_is_found(factor: float) -> None:
    logits, labels = honest_logits(20_000)
    assert calibration.fit_temperature(logits * np.float32(factor), labels) == pytest.approx(factor, rel=0.03)


def test_no_temperature_fits_better() -> None:
    logits, labels = honest_logits(5_000)
    logits *= np.float32(3)
    best = calibration.fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return float(log_loss(labels, calibration.softmax(logits.astype(np.float64) / temperature)))

    assert loss(best) < min(loss(0.95 * best), loss(1.05 * best), loss(1.0))


def test_a_model_that_was_always_right_is_not_taken_for_infallible() -> None:
    logits = np.array([[3.0, -3.0], [-3.0, 3.0]] * 20, dtype=np.float32)
    temperature = calibration.fit_temperature(logits, [0, 1] * 20)
    surest = calibration.softmax(logits / temperature).max()
    assert surest == pytest.approx(1 - 0.5 / 41, abs=1e-3)  # one further row, of which nothing is known


def test_a_model_that_knows_nothing_gets_the_hottest_temperature_and_one_row_is_enough_to_ask() -> None:
    rows = np.array([[4.0, -4.0]] * 10, dtype=np.float32)
    assert calibration.fit_temperature(rows, [0, 1] * 5) == pytest.approx(
        calibration.MAX_TEMPERATURE, rel=1e-6
    )
    assert (
        calibration.MIN_TEMPERATURE
        <= calibration.fit_temperature(rows[:1], [0])
        <= calibration.MAX_TEMPERATURE
    )
    hottest = calibration.fit_temperature(rows, [0, 1] * 5)
    assert "no better than guessing" in calibration.remark_on(hottest)
    assert calibration.remark_on(1.3) == ""


def test_training_leaves_a_temperature_that_is_signed_with_the_model(model_dir: Path) -> None:
    assert calibration.CALIBRATION_NAME in manifest.verify(model_dir).files
    stored = json.loads((model_dir / calibration.CALIBRATION_NAME).read_text())
    assert Classifier.load(model_dir).temperature == stored["temperature"] != 1
    assert stored["rows"] == 24


def test_the_classifier_divides_its_logits_by_the_temperature_on_every_engine(tmp_path: Path) -> None:
    plain = Classifier.load(tiny.write_classifier(tmp_path / "plain", spread=0.5))
    hot = Classifier.load(tiny.write_classifier(tmp_path / "hot", spread=0.5, temperature=4.0))
    texts = [tiny.review(number % 2, number) for number in range(50)]
    ids = hot.encode(texts)
    expected = calibration.softmax(plain.logits(ids) / 4)
    assert plain.temperature == 1
    assert hot.predict_probabilities(texts) == pytest.approx(expected, abs=1e-6)
    assert hot.on(hot.engine).run(ids[:1]) == pytest.approx(expected[:1], abs=1e-6)
    assert (plain.predict_probabilities(texts).max(axis=1) > expected.max(axis=1)).all()


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"temperature": 0}', '{"temperature": NaN}', '{"temperature": "x"}']
)
def test_a_file_that_holds_no_temperature_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / calibration.CALIBRATION_NAME).write_text(content)
    with pytest.raises(ModelFolderError, match=r"calibration\.json has"):
        calibration.read(tmp_path)
