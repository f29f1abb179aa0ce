"""Training and evaluation take what the datasets library saved, where transform has not been at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from miniml.data import preparation, prepared
from miniml.errors import InputError
from miniml.evaluation.evaluate import evaluate_model
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.task import Task
from miniml.tasks.multi_label import MULTI_LABEL
from miniml.tasks.regression import REGRESSION
from miniml.tasks.single_label import SINGLE_LABEL
from miniml.training.fine_tune import fine_tune

ONE = datasets.ClassLabel(names=["bad", "good"])


def saved(folder: Path, label: Any, labels: list[Any], splits: tuple[str, ...] = prepared.SPLITS) -> Path:
    """A folder with so many rows in each split, whose texts say which split it is."""
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    rows = {
        split: datasets.Dataset.from_dict(
            {"text": [f"{split} {number}" for number in range(len(labels))], "label": labels}, features
        )
        for split in splits
    }
    datasets.DatasetDict(rows).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize(
    ("label", "labels", "task", "names", "per_class"),
    [
        (ONE, [0, 1, 1], SINGLE_LABEL, ["bad", "good"], {"bad": 1, "good": 2}),
        (datasets.List(ONE), [[], [1], [0, 1]], MULTI_LABEL, ["bad", "good"], {"bad": 1, "good": 2}),
        (datasets.Value("float32"), [1.0, 2.0, 6.0], REGRESSION, [], {}),
    ],
)
def test_the_label_column_says_what_the_task_is(
    label: Any, labels: list[Any], task: Task, names: list[str], per_class: dict[str, int], tmp_path: Path
) -> None:
    splits, summary = prepared.load(saved(tmp_path / "dataset", label, labels), ("test",))
    assert list(splits) == ["test"]
    assert (summary.task, summary.labels) == (task, names)
    assert summary.rows == dict.fromkeys(prepared.SPLITS, 3)
    assert summary.rows_per_class["train"] == per_class
    assert summary.numbers.get("mean") == (3.0 if task == REGRESSION else None)


def test_other_texts_or_labels_have_another_fingerprint(tmp_path: Path) -> None:
    found = [
        prepared.load(saved(tmp_path / str(number), ONE, labels), ())[1].fingerprint
        for number, labels in enumerate(([0, 1, 1], [0, 1, 1], [1, 1, 1]))
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("label", "splits", "message"),
    [
        (ONE, ("train", "test"), "nor one of the datasets library with a split validation"),
        (datasets.Value("int64"), prepared.SPLITS, "column label in .* it has to be a ClassLabel"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_what_it_lacks(
    label: Any, splits: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "dataset", label, [0, 1, 1], splits)
    with pytest.raises(InputError, match=message):
        prepared.load(folder, ("train",))


def test_a_column_by_another_name_is_told(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"review": ["fine"], "label": [0]})
    datasets.DatasetDict(dict.fromkeys(prepared.SPLITS, rows)).save_to_disk(str(tmp_path / "dataset"))
    with pytest.raises(InputError, match="has no column text; it has: review, label"):
        prepared.load(tmp_path / "dataset")


def test_what_transform_wrote_is_trained_on_alike_without_what_it_noted(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    """The model is the same; the fingerprint is another, so that neither is taken for the other's test."""
    splits, summary = prepared.load(dataset_dir)
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "dataset"))
    plain = prepared.load(tmp_path / "dataset", ())[1]
    assert (plain.rows, plain.rows_per_class) == (summary.rows, summary.rows_per_class)
    settings = TrainingSettings(model_id=str(encoder), iterations=4, batch_size=4)
    fine_tune(tmp_path / "dataset", tmp_path / "model", settings)
    assert evaluate_model(tmp_path / "model", tmp_path / "dataset").test_rows == summary.rows["test"]
    with pytest.raises(InputError, match="Evaluate with the dataset of that training"):
        evaluate_model(tmp_path / "model", dataset_dir)


def test_a_split_without_rows_is_told(tmp_path: Path) -> None:
    """datasets saves it without a table, and cannot read it."""
    folder = saved(tmp_path / "dataset", ONE, [0, 1, 1], ("train", "test"))
    empty = datasets.load_from_disk(str(folder / "train")).select([])
    empty.save_to_disk(str(folder / "validation"))
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    with pytest.raises(InputError, match=r"split validation of .* has no rows"):
        prepared.load(folder, ("train",))
    with pytest.raises(InputError, match="has a split without rows"):
        preparation.prepare(DataSettings(dataset_id=str(folder)), tmp_path / "prepared")
