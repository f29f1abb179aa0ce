"""miniml from Python: `import miniml` is light, and its functions give what the stages do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest

import miniml
from miniml.errors import InputError
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.tasks import SingleLabelPrediction
from miniml.training.fine_tune import TrainingResult
from tests import tiny
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


def test_a_smaller_model_is_made_and_evaluated_beside_the_full_one(
    model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    """How fast a tiny model is tells of the machine, so either of the two may be evaluated."""
    smaller, page = tmp_path / "smaller", tmp_path / "compression.html"
    selection = miniml.compress(
        dataset_dir, model_dir, smaller, max_loss=0.9, distillation_epochs=1, report=page
    )
    assert "layers-1" in [each.name for each in selection.candidates]
    assert "1 of 2 layers" in page.read_text()
    model = selection.smaller_model(smaller)
    result = miniml.evaluate(model_dir, dataset_dir, smaller=model, report=tmp_path / "report.html")
    if selection.chosen:
        assert result.model_digest == selection.chosen.digest
        assert (tmp_path / "report.html").read_text().count(result.model_digest[:12]) > 1
    else:
        assert (smaller / "no_model.json").exists()
        assert (model, result.compressed) == (None, None)


def test_a_report_that_could_not_be_written_is_told_before_any_work(
    model_dir: Path, dataset_dir: Path, reviews: Path, tmp_path: Path
) -> None:
    below = reviews / "report.html"
    with pytest.raises(InputError, match=rf"^report {below} cannot be written, because {reviews} is a file"):
        miniml.fine_tune(dataset_dir, tmp_path / "model", report=below)
    with pytest.raises(InputError, match="is a file"):
        miniml.compress(dataset_dir, model_dir, tmp_path / "smaller", report=below)
    for report, trouble in (below, "is a file"), (tmp_path, "is a folder"), (model_dir / "a.html", "signed"):
        with pytest.raises(InputError, match=trouble):
            miniml.evaluate(model_dir, dataset_dir, report=report)
    assert not any(tmp_path.iterdir())


def test_a_wrong_setting_is_told_with_the_name_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match='no setting "label_colum" of DataSettings; did you mean label_column'
    ):
        miniml.prepare("reviews.csv", tmp_path, label_colum="stars")
    with pytest.raises(InputError, match='epochs is "2"; it takes a whole number'):
        miniml.fine_tune("data", tmp_path, epochs="2")
    with pytest.raises(InputError, match="compression 'smallest' is not known"):
        miniml.compress("data", "model", tmp_path, compression="smallest")
    with pytest.raises(InputError, match=r"dataset is .*null byte"):
        miniml.fine_tune("da\0ta", tmp_path)
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


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (pandas.DataFrame({"text": ["a"]}), r"of type pandas\..*DataFrame; .* to_parquet\(.rows\.parquet.\)"),
        (datasets.Dataset.from_dict({"text": ["a"]}), r"of type datasets\..*Dataset; .* to_parquet\("),
        (datasets.DatasetDict(), r"of type datasets\..*DatasetDict; .* as train\.parquet"),
        ([{"text": "a", "label": 1}], r"of type builtins\.list; .*json\.dumps"),
        (None, r"of type builtins\.NoneType; .* Name a file or folder"),
    ],
)
def test_a_table_in_memory_is_refused_by_its_type_and_with_what_to_do(
    source: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"dataset_id is {told}"):
        miniml.prepare(source, tmp_path / "data")


def test_the_splits_of_a_dataset_dict_are_taken_as_the_message_says(tmp_path: Path) -> None:
    texts = [tiny.review(number % 2, number) for number in range(60)]
    rows = datasets.Dataset.from_dict({"text": texts, "label": [number % 2 for number in range(60)]})
    (tmp_path / "splits").mkdir()
    for name, split in rows.train_test_split(20, seed=1).items():
        split.to_parquet(tmp_path / "splits" / f"{name}.parquet")
    assert sum(miniml.prepare(tmp_path / "splits", tmp_path / "data").rows.values()) == 60


def test_numbers_of_numpy_and_paths_are_taken_for_settings(reviews: Path, tmp_path: Path) -> None:
    summary = miniml.prepare(
        reviews,
        tmp_path / "data",
        seed=np.int64(3),
        train_test_split_ratio=np.float32(0.25),
        drop_rare_classes=np.bool_(True),
        max_rows=np.array(100),
    )
    found = {
        name: summary.settings[name]
        for name in ("seed", "train_test_split_ratio", "drop_rare_classes", "max_rows")
    }
    assert found == {"seed": 3, "train_test_split_ratio": 0.25, "drop_rare_classes": True, "max_rows": 100}
    assert [type(value) for value in found.values()] == [int, float, bool, int]


def test_a_dataset_that_is_none_is_refused_with_where_it_was_looked_for(
    reviews: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"dataset 'nope' does not exist \(looked in .*miniml\.prepare"):
        miniml.fine_tune("nope", tmp_path / "model")
    with pytest.raises(InputError, match=r"reviews\.csv' is a file\. Give the folder that miniml\.prepare"):
        miniml.fine_tune(reviews, tmp_path / "model")
    with pytest.raises(InputError, match="model is 'None', of type NoneType; it takes a string or a Path"):
        miniml.evaluate(None, "data")  # type: ignore[arg-type]


def test_an_error_gives_a_folder_or_an_address_whole_however_long_it_is(tmp_path: Path) -> None:
    away = tmp_path / ("a" * 100) / "dataset"
    with pytest.raises(InputError, match=f"dataset '{away}' does not exist"):
        miniml.fine_tune(away, tmp_path / "model")
    versioned = f"s3://bucket/{'a' * 100}/checkpoints@3"
    with pytest.raises(InputError, match=f"checkpoints '{re.escape(versioned)}' names a version"):
        TrainingSettings(checkpoints=versioned)
    elsewhere = f"ftp://host/{'a' * 100}/checkpoints"
    with pytest.raises(InputError, match=f"checkpoints '{elsewhere}' is neither a folder"):
        TrainingSettings(checkpoints=elsewhere)


def test_its_defaults_are_those_of_everywhere(reviews: Path, tmp_path: Path) -> None:
    summary = miniml.prepare(reviews, tmp_path / "data")
    assert summary.settings["max_rows"] == DataSettings().max_rows


@pytest.mark.parametrize(
    ("asked", "brought"), [("miniml", []), ("miniml.prepare", []), ("miniml.Classifier", ["numpy"])]
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
