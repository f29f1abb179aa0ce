"""Describes dataset folders of the datasets library that miniml did not prepare, for training and evaluation.

`datasets.DatasetDict.save_to_disk` writes such a folder. It needs the splits train, validation and test, each with a
column `text` (strings) and a column `label`, whose type decides the task: a ClassLabel for one class per text, a list
of ClassLabel for several labels, a float for a number. Unlike in transform, no rows are checked or left out: who splits
the rows is responsible for duplicates across splits.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt

from miniml.data.numbers import describe_numbers
from miniml.errors import InputError
from miniml.escaping import listed
from miniml.task import Task
from miniml.task_registry import all_tasks

_ROWS_AT_A_TIME = 1000
_KINDS = "a ClassLabel, a list of ClassLabel, or a float"


def facts_of(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Describes a folder that has no dataset.json.

    Args:
        folder: The folder that `datasets.DatasetDict.save_to_disk` wrote.
        names: The names of its splits, the training's first.

    Returns:
        The fields of a `miniml.data.prepared.DatasetSummary`: labels, task, numbers of rows, and a fingerprint over
        texts and labels of all splits, in order.

    Raises:
        InputError: It is no such folder, or a split or column is missing or of a wrong type.
    """
    splits = {name: _split(folder, name, names) for name in names}
    features = splits[names[0]].features
    for split, rows in splits.items():
        if rows.features["label"] != features["label"]:
            raise InputError(
                f"column label of split {split} in {folder} is not that of train. Cast it likewise."
            )
    task, labels = _task_and_labels(features["label"], folder)
    digest = hashlib.sha256(json.dumps([task, labels], ensure_ascii=False).encode())
    rows_per_class = {}
    for split, rows in splits.items():
        digest.update(f"\n{split}\n".encode())
        counts: Counter[int] = Counter()
        for batch in rows.iter(_ROWS_AT_A_TIME):
            for text, label in zip(batch["text"], batch["label"], strict=True):
                digest.update(f"{json.dumps([text, label])}\n".encode())
                if labels:
                    counts.update(label if isinstance(label, list) else [label])
        rows_per_class[split] = {label: counts[number] for number, label in enumerate(labels)}
    fingerprint = digest.hexdigest()
    # The path cannot name the source, because it differs between steps.
    source = f"dataset-{fingerprint[:12]}"
    return {
        "source": source,
        "fingerprint": fingerprint,
        "labels": labels,
        "rows": {split: len(rows) for split, rows in splits.items()},
        "rows_per_class": rows_per_class,
        "settings": {"dataset_id": source},
        "task": task,
        "numbers": {} if labels else describe_numbers(_labels(splits)),
        "rows_read": sum(map(len, splits.values())),
    }


def read_split(folder: Path, split: str) -> datasets.Dataset:
    """Reads one split of a folder that the datasets library wrote.

    Args:
        folder: The folder.
        split: The split's name.

    Raises:
        InputError: The split has no rows.
        FileNotFoundError: There is no such split.
    """
    try:
        return datasets.load_from_disk(str(folder / split))
    except IndexError as error:  # The library fails so where a split was saved without a table.
        raise InputError(f"split {split} of {folder} has no rows. Give it some.") from error


def _split(folder: Path, split: str, names: Sequence[str]) -> datasets.Dataset:
    try:
        rows = read_split(folder, split)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is not a dataset that the transform stage wrote, nor one of the datasets library with a split "
            f"{split}. Save a DatasetDict with the splits {', '.join(names)}."
        ) from error
    if missing := {"text", "label"} - set(rows.column_names):
        raise InputError(
            f"split {split} of {folder} has no column {', '.join(sorted(missing))}; it has: "
            f"{listed(rows.column_names, 10)}. Rename them."
        )
    if rows.features["text"] != datasets.Value("string") or not len(rows):
        raise InputError(
            f"split {split} of {folder} has no texts in its column text. Give it rows with strings."
        )
    return rows


def _task_and_labels(label: Any, folder: Path) -> tuple[Task, list[str]]:
    for task in all_tasks():
        if (names := task.label_names(label)) is not None:
            return task, names
    raise InputError(f"column label in {folder} is {label}; it has to be {_KINDS}. Cast it (cast_column).")


def _labels(splits: dict[str, datasets.Dataset]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.asarray(rows["label"][:], dtype=np.float64) for rows in splits.values()])
