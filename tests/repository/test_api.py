"""miniml from Python: `import miniml` is light, and its functions give what the stages do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import miniml
from miniml.errors import InputError
from miniml.settings.data import DataSettings
from miniml.tasks import SingleLabelPrediction
from miniml.training.fine_tune import TrainingResult
from tests.command import ROOT
from tests.conftest import TRAINING


def test_a_table_becomes_a_classifier_in_four_lines(reviews: Path, encoder: Path, tmp_path: Path) -> None:
    data, model, report = tmp_path / "data", tmp_path / "model", tmp_path / "report.html"
    summary = miniml.prepare(reviews, data, label_names="bad,good")
    assert summary.labels == ["bad", "good"]
    trained = miniml.fine_tune(data, model, model_id=encoder, report=report, **TRAINING)
    assert isinstance(trained, TrainingResult)
    result = miniml.evaluate(str(model), str(data))
    assert result.model_digest == trained.digest
    assert result.headline.value > 0.9
    assert "Training" in report.read_text()
    texts = ["wonderful food and friendly staff"]
    [answer] = miniml.Classifier.load(model).predict(texts)
    assert isinstance(answer, SingleLabelPrediction)
    assert answer.label == "good"
    assert miniml.Classifier.load(model, SingleLabelPrediction).predict(texts)[0].score == answer.score


def test_an_evaluation_writes_its_page(model_dir: Path, dataset_dir: Path, tmp_path: Path) -> None:
    miniml.evaluate(model_dir, dataset_dir, report=tmp_path / "report.html", min_slice_rows=5)
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_wrong_setting_is_told_with_the_name_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match='no setting "label_colum" of DataSettings; did you mean label_column'
    ):
        miniml.prepare("reviews.csv", tmp_path, label_colum="stars")
    with pytest.raises(InputError, match='epochs is "2"; it takes a whole number'):
        miniml.fine_tune("data", tmp_path, epochs="2")
    with pytest.raises(InputError, match=r"num_nodes is 2.*miniml\.submit"):
        miniml.fine_tune("data", tmp_path, num_nodes=2)


@pytest.mark.parametrize("texts", ["a text", iter(["a text"]), None])
def test_a_classifier_refuses_what_is_no_list_of_texts(model_dir: Path, texts: Any) -> None:
    with pytest.raises(InputError, match="give a list of strings"):
        miniml.Classifier.load(model_dir).predict(texts)


def test_a_folder_of_other_things_is_not_replaced(reviews: Path, tmp_path: Path) -> None:
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    for folder in (tmp_path, kept, Path()):
        with pytest.raises(InputError, match="Name a new folder"):
            miniml.prepare(reviews, folder)
        with pytest.raises(InputError, match="Name a new folder"):
            miniml.fine_tune("data", folder)
    assert kept.read_text() == "mine"


def test_its_defaults_are_those_of_everywhere(reviews: Path, tmp_path: Path) -> None:
    summary = miniml.prepare(reviews, tmp_path / "data")
    assert summary.settings["max_rows"] == DataSettings().max_rows


@pytest.mark.parametrize(
    ("asked", "brought"), [("miniml", []), ("miniml.prepare", []), ("miniml.Classifier", ["torch"])]
)
def test_importing_miniml_brings_in_no_library_before_it_is_used(asked: str, brought: list[str]) -> None:
    script = (
        f"import sys, miniml; {asked}; "
        "print(sorted({'torch', 'datasets', 'kfp', 'numpy', 'minio'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = done.stdout.strip()
    assert found == str(brought) if not brought else all(name in found for name in brought)


def test_all_public_names_are_there_and_documented() -> None:
    assert set(miniml.__all__) <= set(dir(miniml))
    for name in miniml.__all__:
        assert getattr(miniml, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'fine_tun'"):
        miniml.fine_tun  # noqa: B018
