"""A smaller model learns the full model's answers, and is a model folder like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miniml.compression.distillation import distil, logits_of_training, training_settings
from miniml.compression.layers import keep_layers, number_of_layers
from miniml.data import preparation, prepared
from miniml.errors import InputError
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.learnt_texts import LEARNT_NAME
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.tasks.multi_label.training import MultiLabelTarget
from miniml.tasks.regression.training import RegressionTarget
from miniml.tasks.single_label.training import SingleLabelTarget
from miniml.training.fine_tune import fine_tune
from miniml.training.teacher import Teacher
from tests import tiny
from tests.conftest import TRAINING

SETTINGS = CompressionSettings(compression="layers", distillation_epochs=6)
ONE_LAYER = 1


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("answers") / "answers.npy"


@pytest.fixture(scope="module")
def distilled(
    dataset_dir: Path, model_dir: Path, answers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("distilled") / "model"
    distil(dataset_dir, model_dir, ONE_LAYER, answers, folder, SETTINGS)
    return folder


def test_a_distilled_model_has_fewer_layers_and_gives_the_full_models_answers(
    distilled: Path, model_dir: Path, dataset_dir: Path
) -> None:
    assert number_of_layers(model_dir) == 2
    assert number_of_layers(distilled) == ONE_LAYER
    texts = prepared.load(dataset_dir, ("test",))[0]["test"]["text"][:]
    full, small = (Classifier.load(folder).predict(texts) for folder in (model_dir, distilled))
    agreeing = [one.given == other.given for one, other in zip(full, small, strict=True)]
    assert np.mean(agreeing) > 0.9


def test_a_distilled_folder_holds_and_signs_what_any_trained_folder_does(
    distilled: Path, model_dir: Path
) -> None:
    full, small = manifest.verify(model_dir), manifest.verify(distilled)
    assert small.files.keys() == full.files.keys()
    assert small.metrics.keys() == full.metrics.keys()
    assert small.files[LEARNT_NAME] == full.files[LEARNT_NAME]
    assert small.arguments["pretrained"] == full.arguments["pretrained"]
    assert small.arguments["training"]["model_id"] == full.arguments["training"]["model_id"]
    assert small.arguments["distillation"] == {
        "digest": full.digest,
        "layers": [1],
        "temperature": SETTINGS.distillation_temperature,
        "weight": SETTINGS.distillation_weight,
    }
    card = (distilled / "README.md").read_text()
    assert f"made of the one with digest {full.digest[:12]}: it has 1\nof that model's layers" in card


def test_a_distillation_that_is_repeated_is_taken_from_the_finished_ones(
    dataset_dir: Path, model_dir: Path, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, again = (
        distil(
            dataset_dir,
            model_dir,
            ONE_LAYER,
            answers,
            tmp_path / name,
            CompressionSettings(distillation_epochs=1),
        )
        for name in ("one", "two")
    )
    assert once.digest == again.digest
    assert "this very training is finished already" in capsys.readouterr().out
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_another_temperature_is_another_training(
    dataset_dir: Path, model_dir: Path, answers: Path, tmp_path: Path
) -> None:
    digests = {
        distil(
            dataset_dir,
            model_dir,
            ONE_LAYER,
            answers,
            tmp_path / str(temperature),
            CompressionSettings(distillation_epochs=1, distillation_temperature=temperature),
        ).digest
        for temperature in (1.0, 4.0)
    }
    assert len(digests) == 2


def test_the_answers_of_the_full_model_are_computed_once(
    dataset_dir: Path, model_dir: Path, tmp_path: Path
) -> None:
    texts = prepared.load(dataset_dir, ("train",))[0]["train"]["text"][:]
    file = tmp_path / "answers.npy"
    first = logits_of_training(dataset_dir, model_dir, file)
    full = Classifier.load(model_dir)
    np.testing.assert_allclose(first, full.logits(full.encode(texts)), atol=1e-5)
    np.save(file, first + 1)
    np.testing.assert_array_equal(logits_of_training(dataset_dir, model_dir, file), first + 1)


def test_a_model_of_another_dataset_is_refused(model_dir: Path, tmp_path: Path) -> None:
    rows = tiny.write_reviews(tmp_path / "reviews.csv", rows=60)
    preparation.prepare(DataSettings(dataset_id=str(rows), label_names="bad,good"), tmp_path / "dataset")
    with pytest.raises(InputError, match="was trained on another dataset"):
        logits_of_training(tmp_path / "dataset", model_dir, tmp_path / "answers.npy")


@pytest.mark.parametrize(
    ("write", "columns"),
    [
        (tiny.write_tagged, {"label_column": "tags", "label_separator": "|"}),
        (tiny.write_scored, {"label_column": "score"}),
    ],
)
def test_several_labels_and_numbers_are_distilled_too(
    write: Any, columns: dict[str, str], tmp_path: Path
) -> None:
    source = write(tmp_path / "reviews.csv", rows=120)
    data, full, cut = (tmp_path / name for name in ("dataset", "full", "cut"))
    preparation.prepare(DataSettings(dataset_id=str(source), **columns), data)  # type: ignore[arg-type]
    # Its weights tell texts apart as they were drawn, so that it need not be trained for long to have answers.
    encoder = tiny.write_encoder(tmp_path / "encoder", spread=0.3)
    fine_tune(data, full, TrainingSettings(model_id=str(encoder), **{**TRAINING, "iterations": 2}))
    answers = logits_of_training(data, full, tmp_path / "answers.npy")
    distil(data, full, ONE_LAYER, tmp_path / "answers.npy", tmp_path / "small", SETTINGS)
    keep_layers(full, (1,), cut)
    texts = prepared.load(data, ("train",))[0]["train"]["text"][:]
    begun, ended = (Classifier.load(folder) for folder in (cut, tmp_path / "small"))
    before, after = (np.mean((each.logits(each.encode(texts)) - answers) ** 2) for each in (begun, ended))
    assert after < before / 2


def test_a_smaller_model_is_trained_as_the_full_one_was_but_whole_and_without_its_adapters() -> None:
    full = TrainingSettings(
        batch_size=8, iterations=50, learning_rate=1e-3, lora_rank=4, stop_at_step=9, label_smoothing=0.1
    )
    of_full = manifest.Manifest({}, {}, {"training": vars(full)}, {}, {})
    small = training_settings(of_full, CompressionSettings(distillation_epochs=2))
    assert (small.batch_size, small.label_smoothing) == (8, 0.1)
    assert (small.iterations, small.epochs, small.stop_at_step, small.lora_rank) == (0, 2, 0, 0)
    assert small.learning_rate == pytest.approx(1e-4)
    assert small.best_by == "last"
    given = training_settings(of_full, CompressionSettings(distillation_learning_rate=3e-5))
    assert given.learning_rate == 3e-5


@pytest.mark.parametrize(
    ("target", "labels", "width"),
    [
        (SingleLabelTarget(["bad", "good"]), np.array([0, 1, 1]), 2),
        (MultiLabelTarget(["bad", "good"]), np.eye(3, 2, dtype=np.float32), 2),
        (RegressionTarget([1.0, 2.0]), np.ones((3, 1), dtype=np.float32), 1),
    ],
)
def test_the_loss_is_that_of_the_labels_and_that_of_the_answers_by_their_weight(
    target: Any, labels: Any, width: int
) -> None:
    draw = torch.Generator().manual_seed(0)
    logits, answers = (torch.randn(3, width, generator=draw) for _ in range(2))
    true = target.objective(labels, TrainingSettings())
    alone = {
        1.0: target.answers_objective(2.0).total(logits, answers),
        0.0: true.total(logits, torch.from_numpy(labels)),
    }
    for weight in (0.0, 0.3, 1.0):
        teacher = Teacher(Path(), answers.numpy(), 2.0, weight, {})
        taught = torch.from_numpy(teacher.taught(labels))
        found = teacher.objective(target, labels, true).total(logits, taught)
        assert found.item() == pytest.approx(
            ((1 - weight) * alone[0.0] + weight * alone[1.0]).item(), rel=1e-5
        )


@pytest.mark.parametrize(
    "target", [SingleLabelTarget(["bad", "good"]), MultiLabelTarget(["bad", "good"]), RegressionTarget([1.0])]
)
def test_no_answers_lose_less_than_the_full_models_own(target: Any) -> None:
    answers = torch.randn(4, target.head.width, generator=torch.Generator().manual_seed(0))
    own = answers.clone().requires_grad_()
    target.answers_objective(3.0).total(own, answers).backward()
    assert own.grad is not None
    torch.testing.assert_close(own.grad, torch.zeros_like(answers), atol=1e-6, rtol=0)
