"""From any source to a dataset that training can rely on: checked, without duplicates, split once.

What comes out is a folder that `datasets.load_from_disk` reads: splits train, validation and test, each
with the columns `text` (string) and `label` (ClassLabel), and `dataset.json` with what is known of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from miniml import tables
from miniml.errors import InputError
from miniml.folders import written_whole
from miniml.progress import note
from miniml.settings import DataSettings

SUMMARY_NAME = "dataset.json"
SPLITS = ("train", "validation", "test")

# One row of every class for each of the three splits.
MIN_ROWS_PER_CLASS = len(SPLITS)

datasets.disable_progress_bars()


@dataclass(frozen=True)
class DatasetSummary:
    """What is known of a prepared dataset."""

    source: str
    """Where the rows came from; from an S3 store, with the digest of what was there."""
    fingerprint: str
    """SHA-256 (hexadecimal) over label names, texts and labels of all splits, in order."""
    labels: list[str]
    rows: dict[str, int]
    """By split."""
    rows_per_class: dict[str, dict[str, int]]
    """By split, then by label."""
    duplicates_dropped: int
    empty_dropped: int
    settings: dict[str, Any]


def prepare(settings: DataSettings, dataset_dir: Path) -> DatasetSummary:
    """Reads, checks and splits the source, and writes the folder `dataset_dir`.

    The same source, settings and seed give the same files, byte for byte.

    Raises:
        InputError: the source or its rows cannot be used; nothing is written.
        HubError: the hub did not give the source.
        StoreError: the S3 store did not give the source.
        StorageError: the folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        note(f"reading {settings.dataset_id}")
        tables_by_split, source = tables.read(settings.dataset_id, Path(scratch))
        rows, empty_dropped = _take_columns(tables_by_split, settings)
        labels = _label_names(rows, settings)
        rows, duplicates_dropped = _without_duplicates(rows)
        splits = _encode(_split(rows, labels, settings), labels)
        rows_per_class = {split: _count(table, labels.names) for split, table in splits.items()}
        summary = DatasetSummary(
            source=source,
            fingerprint=_fingerprint(splits, labels.names),
            labels=labels.names,
            rows={split: table.num_rows for split, table in splits.items()},
            rows_per_class=rows_per_class,
            duplicates_dropped=duplicates_dropped,
            empty_dropped=empty_dropped,
            settings=asdict(settings),
        )
        with written_whole(dataset_dir) as folder:
            splits.save_to_disk(str(folder))
            _write_json(folder / SUMMARY_NAME, asdict(summary))
    _tell(summary)
    return summary


def load(
    dataset_dir: Path, splits: Sequence[str] = SPLITS
) -> tuple[dict[str, datasets.Dataset], DatasetSummary]:
    """Reads `splits`, and no others, of a folder that `prepare` wrote."""
    try:
        summary = DatasetSummary(**json.loads((dataset_dir / SUMMARY_NAME).read_text(encoding="utf-8")))
        loaded = {split: datasets.load_from_disk(str(dataset_dir / split)) for split in splits}
    except FileNotFoundError as error:
        raise InputError(f"{dataset_dir} is not a dataset that the transform stage wrote: {error}") from error
    return loaded, summary


@dataclass(frozen=True)
class _Labels:
    names: list[str]
    values: list[Any]
    """The source's value of each, in the same order."""


@dataclass(frozen=True)
class _Rows:
    """The usable rows of one split: texts stay in the Arrow table, which need not fit into memory."""

    table: datasets.Dataset
    """With the columns `text` and `label`, as the source has them."""
    labels: list[Any]

    def select(self, indices: Sequence[int]) -> _Rows:
        return _Rows(self.table.select(indices), [self.labels[i] for i in indices])


def _take_columns(source: datasets.DatasetDict, settings: DataSettings) -> tuple[dict[str, _Rows], int]:
    """The rows of each split that the filter lets through, with a text and a label each."""
    taken, empty_dropped = {}, 0
    for split, table in source.items():
        if split not in SPLITS:
            continue
        for argument, column in _columns_asked_for(settings):
            _require_column(argument, column, table, split, settings)
        table = _filtered(table, settings)
        texts, labels = settings.text_column, settings.label_column
        table = table.select_columns([texts, labels]).rename_columns({texts: "text", labels: "label"})
        table, empty = _without_empty(table, split, settings)
        taken[split] = _Rows(table, _label_values(table))
        empty_dropped += empty
    if "train" not in taken:
        raise InputError(
            f"dataset_id {settings.dataset_id!r} has no split 'train'; it has: {', '.join(source)}. "
            f"Name the one to use: ?split=..."
        )
    return taken, empty_dropped


def _columns_asked_for(settings: DataSettings) -> list[tuple[str, str]]:
    asked = [("text_column", settings.text_column), ("label_column", settings.label_column)]
    if settings.row_filter:
        asked.append(("row_filter", settings.row_filter.partition("=")[0]))
    return asked


def _require_column(
    argument: str, column: str, table: datasets.Dataset, split: str, settings: DataSettings
) -> None:
    if column not in table.column_names:
        raise InputError(
            f"column {column!r} is not in split {split!r} of {settings.dataset_id}; it has: "
            f"{', '.join(table.column_names)}. Set {argument}."
        )


def _filtered(table: datasets.Dataset, settings: DataSettings) -> datasets.Dataset:
    if not settings.row_filter:
        return table
    column, _, wanted = settings.row_filter.partition("=")
    values = [str(value) for value in table[column]]
    kept = [number for number, value in enumerate(values) if value == wanted]
    if not kept:
        seen = ", ".join(repr(value) for value, _ in Counter(values).most_common(5))
        raise InputError(
            f"row_filter {settings.row_filter!r} lets no row through; column {column!r} reads {seen}."
        )
    return table.select(kept)


def _without_empty(
    table: datasets.Dataset, split: str, settings: DataSettings
) -> tuple[datasets.Dataset, int]:
    empty = []
    for number, text in enumerate(_column(table, "text")):
        if text is not None and not isinstance(text, str):
            raise InputError(
                f"column {settings.text_column!r} holds {text!r}, of type {type(text).__name__}, in row {number} "
                f"of split {split!r}; texts are strings. Set text_column."
            )
        if not (text or "").strip():
            empty.append(number)
    if empty and not settings.drop_empty_texts:
        raise InputError(
            f"{len(empty):,} of {table.num_rows:,} texts in column {settings.text_column!r} of split {split!r} "
            f"are empty, the first in row {empty[0]}. Fill or remove them, or set drop_empty_texts=True."
        )
    if table.num_rows == len(empty):
        raise InputError(
            f"split {split!r} of {settings.dataset_id} has no rows with a text. Check the file and text_column."
        )
    dropped = set(empty)
    return table.select([n for n in range(table.num_rows) if n not in dropped]), len(empty)


def _column(table: datasets.Dataset, name: str) -> Iterable[Any]:
    for batch in table.select_columns([name]).iter(batch_size=1000):
        yield from batch[name]


def _label_values(table: datasets.Dataset) -> list[Any]:
    """Labels as the source has them, a ClassLabel's by its name; none may be missing."""
    feature = table.features["label"]
    values = list(_column(table, "label"))
    if isinstance(feature, datasets.ClassLabel):
        # -1 is what the hub's datasets write where a test split's labels are kept secret.
        values = [None if value in (None, -1) else feature.int2str(value) for value in values]
    for number, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()):
            raise InputError(
                f"row {number} has no label. Remove such rows, or set label_column, or take another split."
            )
        if not isinstance(value, str | int | float | bool):
            raise InputError(
                f"label {value!r} in row {number} is of type {type(value).__name__}; a label is a string or a "
                f"number. Set label_column."
            )
    return values


def _label_names(rows: dict[str, _Rows], settings: DataSettings) -> _Labels:
    """The classes: a ClassLabel's in its own order, others sorted, numbers by their value."""
    present = Counter(value for part in rows.values() for value in part.labels)
    feature = rows["train"].table.features["label"]
    if isinstance(feature, datasets.ClassLabel):
        values: list[Any] = [name for name in feature.names if name in present]
    else:
        values = sorted(present, key=_sorting_key)
    if len(values) < 2:
        raise InputError(
            f"column {settings.label_column!r} has one class only ({values[0]!r}); a classifier needs 2 or more. "
            f"Set label_column, or check row_filter."
        )
    for value in values:
        if present[value] < MIN_ROWS_PER_CLASS:
            raise InputError(
                f"class {value!r} has {present[value]} rows of {sum(present.values()):,}, too few to split: training, "
                f"validation and test need one each. Collect more, remove the class, or, if column "
                f"{settings.label_column!r} holds no classes, set label_column."
            )
    names = [str(value) for value in values]
    if settings.label_names:
        names = [name.strip() for name in settings.label_names.split(",")]
        if len(names) != len(values) or len(set(names)) != len(names) or not all(names):
            raise InputError(
                f"label_names {settings.label_names!r} names {len(names)} classes; column {settings.label_column!r} "
                f"has {len(values)}: {', '.join(map(str, values))}. Give one distinct name for each, in this order."
            )
    return _Labels(names, values)


def _sorting_key(value: Any) -> tuple[bool, float, str]:
    """Numbers, also those written as text, by value ("10" after "9") and before words."""
    number = re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", str(value))
    return (number is None, float(number[0]) if number else 0.0, str(value))


def _without_duplicates(rows: dict[str, _Rows]) -> tuple[dict[str, _Rows], int]:
    """Each text once, the test's copy going first: training must not see what the test will ask."""
    seen: set[bytes] = set()
    kept = {}
    dropped = 0
    for split in reversed(SPLITS):
        if split not in rows:
            continue
        first = []
        for number, text in enumerate(_column(rows[split].table, "text")):
            digest = hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                first.append(number)
        dropped += rows[split].table.num_rows - len(first)
        kept[split] = rows[split].select(first)
    return kept, dropped


def _split(rows: dict[str, _Rows], labels: _Labels, settings: DataSettings) -> dict[str, _Rows]:
    """Train, validation and test: the source's own where it has them, else cut, stratified and seeded."""
    shares = np.random.default_rng(settings.seed)
    parts = dict(rows)
    if settings.max_rows:
        test_rows = max(round(settings.max_rows * settings.train_test_split_ratio), len(labels.values))
        if "test" in parts:
            parts["test"], _ = _cut(parts["test"], test_rows, shares)
            parts["train"], _ = _cut(parts["train"], settings.max_rows - test_rows, shares)
        else:
            parts["train"], _ = _cut(parts["train"], settings.max_rows, shares)
    if "test" not in parts:
        share = round(settings.train_test_split_ratio * len(parts["train"].labels))
        parts["test"], parts["train"] = _cut(parts["train"], share, shares)
    if "validation" not in parts:
        share = round(settings.validation_split_ratio * len(parts["train"].labels))
        parts["validation"], parts["train"] = _cut(parts["train"], share, shares)
    _require_every_class(parts, labels, settings)
    return {split: parts[split] for split in SPLITS}


def _cut(rows: _Rows, size: int, generator: np.random.Generator) -> tuple[_Rows, _Rows]:
    """Draws about `size` rows with every class in proportion (and at least one of each); the rest comes second.

    Both come shuffled.
    """
    total = len(rows.labels)
    if size >= total:
        return rows.select(generator.permutation(total).tolist()), rows.select([])
    by_class: dict[Any, list[int]] = {}
    for number, value in enumerate(rows.labels):
        by_class.setdefault(value, []).append(number)
    drawn: list[int] = []
    for value in sorted(by_class, key=_sorting_key):
        members = generator.permutation(by_class[value]).tolist()
        drawn += members[: max(1, round(len(members) * size / total))]
    rest = np.setdiff1d(np.arange(total), drawn)
    return rows.select(generator.permutation(drawn).tolist()), rows.select(
        generator.permutation(rest).tolist()
    )


def _require_every_class(parts: dict[str, _Rows], labels: _Labels, settings: DataSettings) -> None:
    for split, part in parts.items():
        counts = Counter(part.labels)
        for name, value in zip(labels.names, labels.values, strict=True):
            if split != "validation" and not counts[value]:
                raise InputError(
                    f"class {name!r} has no row in the {split} part of {len(part.labels):,} rows: it is too small to "
                    f"split. Raise max_rows (now {settings.max_rows}), collect more of it, or remove the class."
                )


def _encode(parts: dict[str, _Rows], labels: _Labels) -> datasets.DatasetDict:
    number = {value: index for index, value in enumerate(labels.values)}
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=labels.names)}
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"text": list(_column(part.table, "text")), "label": [number[v] for v in part.labels]},
                features=features,
            )
            for split, part in parts.items()
        }
    )


def _fingerprint(splits: datasets.DatasetDict, names: list[str]) -> str:
    digest = hashlib.sha256(json.dumps(names, ensure_ascii=False).encode())
    for split in SPLITS:
        digest.update(f"\n{split}\n".encode())
        for row in splits[split]:
            digest.update(json.dumps([row["label"], row["text"]], ensure_ascii=False).encode())
    return digest.hexdigest()


def _count(table: datasets.Dataset, names: list[str]) -> dict[str, int]:
    counts = Counter(table["label"])
    return {name: counts[number] for number, name in enumerate(names)}


def _tell(summary: DatasetSummary) -> None:
    rows = " + ".join(f"{count:,} {split}" for split, count in summary.rows.items())
    note(f"{rows} rows · {len(summary.labels)} classes: {', '.join(summary.labels[:6])}")
    if dropped := summary.duplicates_dropped:
        note(f"left out {dropped:,} rows whose text stands elsewhere")
    if dropped := summary.empty_dropped:
        note(f"left out {dropped:,} rows without a text")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
