"""Reads a source in one pass: checks every row, cleans it if the settings ask for it, and adds it to the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miniml.data import texts
from miniml.data.columns import RowFilter, dictionary, named
from miniml.data.digests import NOTHING, digests
from miniml.data.encoding import unlabelled
from miniml.data.findings import Findings, Passage
from miniml.data.groups import group_hashes
from miniml.data.label_column import LabelColumn
from miniml.data.label_scheme import scheme_of, task_of
from miniml.data.pool import Facts, Pool
from miniml.data.prepared import SPLITS
from miniml.data.tables import Table
from miniml.data.texts import Bytes
from miniml.errors import InputError
from miniml.escaping import listed, shown
from miniml.progress import Progress, logger
from miniml.settings.data import DataSettings
from miniml.task import Task


def read_rows(tables: dict[str, Table], settings: DataSettings, findings: Findings, scratch: Path) -> Pool:
    """Reads the usable rows of every split into a pool.

    Args:
        tables: The tables of the splits, by name.
        settings: The columns, and which faulty rows may be left out.
        findings: Where faulty rows are counted.
        scratch: The folder of the pool's file.

    Raises:
        InputError: A column is missing or of the wrong type, or rows are unusable and must not be left out.
    """
    _require_columns(tables, settings)
    task = task_of(LabelColumn(tables, settings))
    reading = _Reading(task, settings, findings, _progress(tables))
    file = scratch / "pool.arrow"
    schema = pa.schema([(name, pa.string()) for name in ("text", *settings.carried_columns)])
    starts = [0]
    with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_file(opened, schema) as writer:
        for split in SPLITS:
            if split in tables:
                for batch in reading.usable(split, tables[split]):
                    writer.write_batch(batch)
                    starts.append(starts[-1] + batch.num_rows)
    reading.require_usable()
    return Pool(
        file=file,
        starts=np.array(starts, np.int64),
        facts=reading.facts(),
        task=task,
        label_values=reading.labels.values,
        label_order=_label_names(tables["train"], settings),
        rows_read=reading.rows_read,
    )


def _progress(tables: dict[str, Table]) -> Progress:
    counts = [table.rows for split, table in tables.items() if split in SPLITS]
    return Progress("reading", None if None in counts else sum(filter(None, counts)), "rows")


def _require_columns(tables: dict[str, Table], settings: DataSettings) -> None:
    if "train" not in tables:
        raise InputError(
            f"dataset_id {settings.dataset_id!r} has no split 'train'; it has: {', '.join(tables)}. "
            f"Name the one to use: ?split=..."
        )
    if unread := [split for split in tables if split not in SPLITS]:
        logger.info(f"left out: {listed(unread)}; the splits that are read are called {', '.join(SPLITS)}")
    for split, table in tables.items():
        if split not in SPLITS:
            continue
        asked = _columns_asked_for(settings)
        for argument, column in asked:
            if column in table.unusable:
                raise InputError(f"{argument} {column!r} of {settings.dataset_id}: {table.unusable[column]}")
            if column not in table.columns:
                strange = not any(each in table.columns for _, each in asked)
                raise InputError(
                    f"column {column!r} is not in split {split!r} of {settings.dataset_id}; it has: "
                    f"{listed(table.columns)}. Set {argument}. {table.advice if strange else ''}".rstrip()
                )
        if settings.text_column in table.mixed:
            raise InputError(
                f"{table.mixed[settings.text_column]}; texts are strings. Correct the source, or set text_column."
            )


def _columns_asked_for(settings: DataSettings) -> list[tuple[str, str]]:
    asked = [("text_column", settings.text_column), ("label_column", settings.label_column)]
    if settings.row_filter:
        asked.append(("row_filter", settings.row_filter.partition("=")[0]))
    if settings.group_column:
        asked.append(("group_column", settings.group_column))
    return asked + [("slice_columns", column) for column in settings.carried_columns]


def _label_names(table: Table, settings: DataSettings) -> list[str] | None:
    feature = table.features[settings.label_column]
    # A column of lists has the type of their entries as its `feature`.
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


@dataclass
class _Column:
    """The values of one column of `Facts` for the rows read so far, batch by batch."""

    parts: list[Any] = field(default_factory=list)

    def joined(self, kind: type, width: int = 1) -> Any:
        whole = np.concatenate(self.parts) if self.parts else np.zeros(0, kind)
        self.parts = []
        return whole.astype(kind, copy=False).reshape((-1, width) if width > 1 else -1)


@dataclass(frozen=True)
class _Trouble:
    """Unusable rows, which are an error unless the settings allow to leave them out."""

    rows: int
    of: int
    split: str
    first: int


class _Reading:
    def __init__(self, task: Task, settings: DataSettings, findings: Findings, progress: Progress) -> None:
        self._settings, self._findings, self._progress = settings, findings, progress
        self._passed = 0
        """The number of rows of the splits read before, including those that the filter excluded."""
        self.labels = scheme_of(task).encoder(settings)
        self.rows_read = 0
        self._split, self._row, self._label = _Column(), _Column(), _Column()
        self._digest, self._group = _Column(), _Column()
        self._trouble: dict[str, _Trouble] = {}
        self._filter = RowFilter(settings)

    def usable(self, split: str, table: Table) -> Iterator[pa.RecordBatch]:
        """Yields the rows of one split that have a text and a label, with the pool's columns."""
        columns = list(dict.fromkeys(column for _, column in _columns_asked_for(self._settings)))
        counts: Counter[str] = Counter()
        firsts: dict[str, int] = {}
        begin = read = taken = 0
        for batch in table.batches(columns):
            numbers = np.arange(begin, begin + batch.num_rows)
            begin += batch.num_rows
            if self._settings.row_filter:
                mask = self._filter.mask(batch, table.features)
                batch, numbers = batch.filter(pa.array(mask)), numbers[mask]
            read += batch.num_rows
            kept = self._checked(split, table, batch, numbers, counts, firsts)
            taken += kept.num_rows
            if kept.num_rows:
                yield kept
            self._progress.report(self._passed + begin)
        self._passed += begin
        self.rows_read += read
        for check, rows in counts.items():
            self._trouble.setdefault(check, _Trouble(rows, read, split, firsts[check]))
            self._findings.add(check, rows, dropped=True)
        self._require_rows(split, read, taken)

    def _require_rows(self, split: str, read: int, taken: int) -> None:
        settings = self._settings
        if settings.row_filter and not read:
            seen = ", ".join(shown(value) for value, _ in self._filter.reads.most_common(5))
            raise InputError(
                f"row_filter {settings.row_filter!r} lets no row through; column {self._filter.column!r} reads {seen}."
            )
        if not taken and not self._refused():
            raise InputError(
                f"split {split!r} of {settings.dataset_id} has no rows with a text and a label. Check the file, "
                f"text_column and label_column."
            )

    def _checked(
        self,
        split: str,
        table: Table,
        batch: pa.RecordBatch,
        numbers: np.ndarray[Any, np.dtype[np.int64]],
        counts: Counter[str],
        firsts: dict[str, int],
    ) -> pa.RecordBatch:
        settings = self._settings
        read = _as_strings(batch.column(settings.text_column), settings, split, numbers)
        column, meanings = self._cleaned(split, read, numbers)
        codes = self.labels.encode(
            batch.column(settings.label_column),
            table.features[settings.label_column],
            lambda row: f"row {numbers[row]} of split {split!r}",
        )
        of_texts = digests(column, meanings)
        unusable = {
            "empty": (of_texts == NOTHING).all(axis=1),
            "unlabelled": unlabelled(codes),
            "long": self._long(split, column, numbers),
        }
        keep = np.ones(len(column), bool)
        for check, rows in unusable.items():
            rows &= keep  # A row is left out once, for the first reason.
            if rows.any():
                counts[check] += int(rows.sum())
                firsts.setdefault(check, int(numbers[rows.argmax()]))
                keep &= ~rows
        self._split.parts.append(np.full(int(keep.sum()), SPLITS.index(split), np.uint8))
        self._row.parts.append(numbers[keep].astype(np.uint32))
        self._label.parts.append(codes[keep])
        self._digest.parts.append(of_texts[keep])
        if settings.group_column:
            self._group.parts.append(group_hashes(batch.column(settings.group_column), of_texts)[keep])
        arrays = [column.filter(pa.array(keep))]
        for name in settings.carried_columns:
            arrays.append(_carried(batch.column(name), table.features[name]).filter(pa.array(keep)))
        return pa.record_batch(arrays, names=["text", *settings.carried_columns])

    def _cleaned(
        self, split: str, column: pa.StringArray, numbers: np.ndarray[Any, np.dtype[np.int64]]
    ) -> tuple[pa.StringArray, Bytes]:
        """Returns the texts, cleaned if the settings ask for it, and their flags (see `texts.meanings`)."""
        meanings = texts.meanings(column)
        cleaned: dict[int, str] = {}
        for number, meaning in texts.suspicious(meanings):
            text = column[number].as_py()
            for check, place in list(texts.faults(text, meaning)):
                self._findings.add(check, 1)
                if self._findings.wants(check):
                    where = f"{split}, row {numbers[number]}"
                    self._findings.show(check, Passage.of(where, cleaned.get(number, text), around=place))
                setting, step = texts.CLEANING.get(check, ("", None))
                if step and getattr(self._settings, setting):
                    cleaned[number] = step(cleaned.get(number, text))
                    self._findings.cleaned[check] += 1
        if not cleaned:
            return column, meanings
        whole = column.to_pylist()
        for number, text in cleaned.items():
            whole[number] = text
        column = pa.array(whole, pa.string())
        return column, texts.meanings(column)

    def _long(
        self, split: str, column: pa.StringArray, numbers: np.ndarray[Any, np.dtype[np.int64]]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Returns a mask of the long texts to leave out; if the settings keep them, they are only counted."""
        characters = pc.utf8_length(column).to_numpy()
        long: np.ndarray[Any, np.dtype[np.bool_]] = characters > (self._settings.max_characters or np.inf)
        for number in np.flatnonzero(long).tolist():
            where = f"{split}, row {numbers[number]}, {characters[number]:,} characters"
            self._findings.show("long", Passage.of(where, column[number].as_py()))
        if self._settings.drop_long_texts:
            return long
        self._findings.add("long", int(long.sum()))
        return np.zeros(len(column), bool)

    def _refused(self) -> list[str]:
        may_drop = {
            "empty": self._settings.drop_empty_texts,
            "unlabelled": self._settings.drop_unlabelled,
            "long": True,
        }
        return [check for check in self._trouble if not may_drop[check]]

    def require_usable(self) -> None:
        """Checks that all rows that had to be left out may be left out.

        Raises:
            InputError: Rows have no text or no label, and the settings do not allow to leave them out.
        """
        for check in self._refused():
            trouble, column = self._trouble[check], self._settings.text_column
            if check == "empty":
                raise InputError(
                    f"{trouble.rows:,} of {trouble.of:,} texts in column {column!r} of split {trouble.split!r} "
                    f"are empty, the first in row {trouble.first}. Fill or remove them, or set drop_empty_texts=True."
                )
            raise InputError(
                f"row {trouble.first} has no label, nor have others of the {trouble.of:,} in split {trouble.split!r}: "
                f"{trouble.rows:,} in all. Set label_column, or take another split, or set drop_unlabelled=True."
            )

    def facts(self) -> Facts:
        return Facts(
            split=self._split.joined(np.uint8),
            row=self._row.joined(np.uint32),
            label=self._label.joined(self.labels.kind),
            digest=self._digest.joined(np.uint64, 2),
            group=self._group.joined(np.uint64) if self._settings.group_column else None,
        )


def _as_strings(
    column: pa.Array, settings: DataSettings, split: str, numbers: np.ndarray[Any, np.dtype[np.int64]]
) -> pa.StringArray:
    """Returns the texts as strings, with "" for missing ones."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        for number, value in zip(numbers, column.to_pylist(), strict=True):
            if value is not None:
                raise InputError(
                    f"column {settings.text_column!r} holds {shown(value)}, of type {type(value).__name__}, in row "
                    f"{number} of split {split!r}; texts are strings. Set text_column."
                )
    return column.cast(pa.string()).fill_null("")


def _carried(column: pa.Array, feature: Any) -> pa.StringArray:
    """Returns a column for slices of the evaluation as strings, with "" for missing values."""
    encoded = dictionary(column)
    values = [named(value, feature) for value in encoded.dictionary.to_pylist()]
    words = pa.array(["" if value is None else str(value) for value in values], pa.string())
    return words.take(encoded.indices).fill_null("")
