"""Loads a prepared dataset and its summary, `dataset.json`.

A prepared dataset is a folder that `datasets.load_from_disk` reads, with the splits train, validation and test. Their
columns are `text` (string) and `label` (ClassLabel), `group` (int64) if `group_column` was given, and those that
`slice_columns` names (strings).

`group` has one number for each group, and one for each row without a group. It is a hash of the group's value, or of
the text if there is none, so that a group has the same number in every dataset.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets

from miniml.data import plain
from miniml.errors import InputError
from miniml.escaping import without_placeholders
from miniml.task import Task
from miniml.task_registry import DEFAULT, stored_task

SUMMARY_NAME = "dataset.json"
SPLITS = ("train", "validation", "test")
GROUP = "group"
"""The column (int64) with the number of each row's group, if `group_column` was given. Samples and permutations of rows
must then take whole groups."""

datasets.disable_progress_bars()


@dataclass(frozen=True)
class DatasetSummary:
    """The summary of a prepared dataset. It holds no texts, since a model's manifest repeats it."""

    source: str
    """The address of the source; in an S3 store, with the digest of its content."""
    fingerprint: str
    """SHA-256 (hexadecimal) over label names, texts, labels and carried columns of all splits, in order."""
    labels: list[str]
    """The names of the labels; empty in a regression."""
    rows: dict[str, int]
    """The number of rows by split."""
    rows_per_class: dict[str, dict[str, int]]
    """The number of rows by split, then by label."""
    settings: dict[str, Any]
    hub_id: str = ""
    """`owner/name` if the source is a dataset of the hub; a path may look the same."""
    task: Task = DEFAULT
    numbers: dict[str, float] = field(default_factory=dict)
    """Statistics of all labels of a regression: least, median, mean, most, deviation (the standard deviation)."""
    rows_read: int = 0
    """The number of rows of the source that `row_filter` selected."""
    not_drawn: int = 0
    """The number of usable rows that `max_rows` left out."""
    found: dict[str, int] = field(default_factory=dict)
    """The number of rows that each check found faulty (see `miniml.data.findings`)."""
    dropped: dict[str, int] = field(default_factory=dict)
    """The number of rows that were left out, by reason."""
    cleaned: dict[str, int] = field(default_factory=dict)
    """The number of texts that each cleaning step changed, and of labels that got another spelling (label_spelling)."""

    lengths: dict[str, float] = field(default_factory=dict)
    """Statistics of a sample of the texts, in `length_unit`: median, percentile_95, longest, and the fractions
    texts_cut and tokens_cut that exceed the model's `max_length`; empty without a report."""
    length_unit: str = ""

    def remaining(self, check: str) -> int:
        """Returns the number of rows that a check found faulty and that were neither left out nor cleaned."""
        return self.found.get(check, 0) - self.dropped.get(check, 0) - self.cleaned.get(check, 0)

    def metadata(self) -> dict[str, Any]:
        """Returns the metadata for the dataset's page in the Kubeflow UI."""
        everything = asdict(self)
        for name in ("settings", "hub_id"):
            del everything[name]
        return dict(without_placeholders(everything | {"task": str(self.task)}))

    def save(self, folder: Path) -> None:
        """Writes the summary to `dataset.json` in the folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / SUMMARY_NAME).write_text(text, encoding="utf-8")


def load(
    dataset_dir: Path, splits: Sequence[str] = SPLITS
) -> tuple[dict[str, datasets.Dataset], DatasetSummary]:
    """Reads a dataset that `prepare` or the datasets library wrote.

    Args:
        dataset_dir: The folder.
        splits: The splits to read.

    Returns:
        The splits by name, and the summary of the dataset.

    Raises:
        InputError: The folder is not a prepared dataset, lacks a split, or one of them has no rows.
    """
    if not dataset_dir.is_dir():
        trouble = "is a file" if dataset_dir.exists() else f"does not exist (looked in {Path.cwd()})"
        raise InputError(
            f"dataset {str(dataset_dir)!r} {trouble}. Give the folder that miniml.prepare or the transform stage "
            f"has written."
        )
    try:
        summary = _summary(dataset_dir)
        loaded = {split: plain.read_split(dataset_dir, split) for split in splits}
    except FileNotFoundError as error:
        raise InputError(f"{dataset_dir} is not a dataset that the transform stage wrote: {error}") from error
    return loaded, summary


def _summary(dataset_dir: Path) -> DatasetSummary:
    stored_file = dataset_dir / SUMMARY_NAME
    if not stored_file.exists() and (dataset_dir / "dataset_dict.json").exists():
        return DatasetSummary(**plain.facts_of(dataset_dir, SPLITS))
    stored = json.loads(stored_file.read_text(encoding="utf-8"))
    return DatasetSummary(**{**stored, "task": stored_task(stored)})
