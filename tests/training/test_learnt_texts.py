"""What a model has learnt before, on other splits of the same data, is not asked in its test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniml.data import preparation, prepared
from miniml.errors import InputError, ModelFolderError
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.report import write_report
from miniml.model import manifest
from miniml.model.learnt_texts import LEARNT_NAME, LearntTexts, digests_of
from miniml.model.manifest import read
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune
from tests import tiny

QUICK: dict[str, Any] = {"batch_size": 16, "iterations": 2, "max_length": 32, "linear_probe": False}


def texts(dataset_dir: Path, *splits: str) -> set[str]:
    loaded, _ = prepared.load(dataset_dir, splits)
    return {text for split in loaded.values() for text in split["text"]}


@pytest.fixture(scope="module")
def other_splits(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "dataset"
    preparation.prepare(DataSettings(dataset_id=str(reviews), label_names="bad,good", seed=7), folder)
    return folder


@pytest.fixture(scope="module")
def trained_further(model_dir: Path, other_splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("further") / "model"
    fine_tune(other_splits, folder, TrainingSettings(model_id=str(model_dir), **QUICK))
    return folder


def test_the_test_is_what_no_training_has_seen_and_the_report_says_so(
    trained_further: Path, dataset_dir: Path, other_splits: Path, tmp_path: Path
) -> None:
    result = evaluate_model(trained_further, other_splits, predictions_path=tmp_path / "predictions")
    seen = texts(dataset_dir, "train", "validation")
    test = prepared.load(other_splits, ("test",))[0]["test"]
    predictions = Predictions.read(tmp_path / "predictions")
    assert set(predictions.texts) == set(test["text"]) - seen
    assert result.test_rows + result.learnt_rows == len(test)
    assert result.learnt_rows > len(test) / 2
    assert [test[int(row)]["text"] for row in predictions.row_numbers] == predictions.texts
    write_report(result, read(trained_further), [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"{result.learnt_rows} more rows of the test were left out" in page


def test_a_chain_of_trainings_remembers_its_beginning(
    trained_further: Path, dataset_dir: Path, other_splits: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    fine_tune(dataset_dir, again, TrainingSettings(model_id=str(trained_further), **QUICK))
    result = evaluate_model(again, dataset_dir, predictions_path=tmp_path / "predictions")
    predictions = Predictions.read(tmp_path / "predictions")
    assert not set(predictions.texts) & texts(other_splits, "train", "validation")
    assert result.learnt_rows
    # Its own texts, and those of the first training, which are the same, are not counted as learnt before.
    known = LearntTexts.read(again)
    assert len(known.learnt) == len(texts(dataset_dir, "train"))
    assert not np.isin(known.learnt_before, known.learnt).any()


def test_going_on_with_the_same_dataset_costs_it_no_row(
    model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    fine_tune(dataset_dir, tmp_path / "model", TrainingSettings(model_id=str(model_dir), **QUICK))
    result = evaluate_model(tmp_path / "model", dataset_dir)
    assert result.learnt_rows == 0
    assert LearntTexts.read(tmp_path / "model").learnt_before.size == 0


def test_from_scratch_nothing_is_inherited(model_dir: Path, other_splits: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(model_id=str(model_dir), from_scratch=True, **QUICK)
    fine_tune(other_splits, tmp_path / "model", settings)
    assert evaluate_model(tmp_path / "model", other_splits).learnt_rows == 0


def test_a_validation_that_was_learnt_as_a_whole_ends_the_training_before_it_begins(
    model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    splits, _ = prepared.load(dataset_dir)
    known = LearntTexts.read(model_dir)
    with pytest.raises(InputError, match=r"has been trained on all 216 texts of validation"):
        known.unlearnt(splits["train"], str(model_dir))
    further = known.followed_by(splits["test"].select([0]), splits["test"].select([1]))
    with pytest.raises(InputError, match="has been trained on all 216 texts of the test"):
        further.unseen(splits["train"])


def test_a_folder_of_an_earlier_miniml_is_taken_for_the_same_dataset_alone(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "old")
    assert LearntTexts.of_pretrained(folder, "old", "0" * 64).learnt.size == 0
    with pytest.raises(InputError, match=r"model_id 'old' .* another dataset .* Train that model again"):
        LearntTexts.of_pretrained(folder, "old", "1" * 64)


def test_a_list_that_was_tampered_with_or_is_none_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    LearntTexts.nothing().write(folder)
    signed = manifest.sign(folder, data={"fingerprint": "0" * 64}, arguments={}, versions={}, metrics={})
    assert LEARNT_NAME in signed.files
    (folder / LEARNT_NAME).write_bytes(b"not a list")
    with pytest.raises(ModelFolderError, match="is not the file that was signed"):
        LearntTexts.of_pretrained(folder, "model", "0" * 64)
    with pytest.raises(ModelFolderError, match="does not tell which texts the model has learnt"):
        LearntTexts.read(folder)


@pytest.mark.parametrize(
    "other",
    [
        "The food was GREAT",
        "the  food\nwas great!",
        "<br />The food was <b>great</b>",
        "ｔｈｅ food was great",
    ],
)
def test_a_text_is_known_again_however_it_was_cleaned(other: str) -> None:
    assert digests_of([other]) == digests_of(["The food was great"])


def test_texts_without_words_are_told_apart() -> None:
    assert len(digests_of([":-)", ":-(", "", "good", "bad", "好"])) == 6
