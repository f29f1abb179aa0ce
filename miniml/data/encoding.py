"""The label column as numbers, an entry for each row: of its class, of its set of labels, or the number it is."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from miniml.data.columns import MAX_CLASSES, RowFilter, dictionary, named
from miniml.data.prepared import SPLITS
from miniml.data.tables import Table
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.progress import note
from miniml.settings.data import DataSettings
from miniml.tasks.task import AUTO, Task

Codes = np.ndarray[Any, Any]
_NUMBER = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*")


class Encoder(ABC):
    """Takes the label column, a batch after the other."""

    kind: type = np.int32
    """Of the numbers."""
    missing: float = -1
    """In place of a number, for a row that has no label."""

    def __init__(self, settings: DataSettings) -> None:
        self._column, self._separator = settings.label_column, settings.label_separator
        self._known: dict[Any, int] = {}
        """Classes or labels, in order of appearance."""

    @property
    @abstractmethod
    def values(self) -> list[Any]:
        """What each number stands for: a class, or a tuple of labels. Empty where it stands for itself."""

    @abstractmethod
    def _number_of(self, stored: Any, feature: Any, place: _Place) -> float | None:
        """The number of a value that the column holds."""

    def encode(self, column: pa.Array, feature: Any, place_of: Callable[[int], str]) -> Codes:
        """A number for each row. `place_of` says where the source has a row of this batch, for errors.

        Raises:
            InputError: a label is none of its kind; the message names the row.
        """
        encoded = dictionary(column)
        indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        # The last entry is for rows that have no value.
        codes: Codes = np.full(len(encoded.dictionary) + 1, self.missing, self.kind)
        for entry, stored in enumerate(encoded.dictionary.to_pylist()):
            number = self._number_of(stored, feature, _Place(indices, entry, place_of))
            codes[entry] = self.missing if number is None else number
        if len(self._known) > MAX_CLASSES:
            raise InputError(
                f"column {self._column!r} holds more than {MAX_CLASSES:,} different values, which are no classes. "
                f"Set label_column, or, if they are numbers to predict, set task={Task.REGRESSION}."
            )
        of_rows: Codes = codes[indices]
        return of_rows


LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Place:
    """Where the source has a value, looked up only where it is told."""

    indices: Codes
    entry: int
    place_of: Callable[[int], str]

    def __str__(self) -> str:
        return self.place_of(int(np.argmax(self.indices == self.entry)))


def encoder_of(task: Task, settings: DataSettings) -> Encoder:
    """The encoder of the labels of that task."""
    encoders: dict[Task, type[Encoder]] = {
        Task.SINGLE_LABEL: Classes,
        Task.MULTI_LABEL: LabelSets,
        Task.REGRESSION: Numbers,
    }
    return encoders[task](settings)


def unlabelled(codes: Codes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows have no label."""
    missing: np.ndarray[Any, np.dtype[np.bool_]] = np.isnan(codes) if codes.dtype.kind == "f" else codes < 0
    return missing


def task_of(tables: dict[str, Table], settings: DataSettings) -> Task:
    """The task that the settings name, or that the labels tell.

    Only where they may be numbers with a fraction are they looked through, until one is none.
    """
    if settings.task != AUTO:
        return Task(settings.task)
    column = settings.label_column
    feature = tables["train"].features[column]
    if settings.label_separator or _element(feature) is not None:
        note(f"column {column!r} holds several labels a text: task {Task.MULTI_LABEL}")
        return Task.MULTI_LABEL
    if _may_hold_fractions(feature) and _are_fractions(tables, settings):
        note(
            f"column {column!r} holds numbers with fractions: task {Task.REGRESSION} "
            f"(task={Task.SINGLE_LABEL} makes classes of them)"
        )
        return Task.REGRESSION
    return Task.SINGLE_LABEL


def _may_hold_fractions(feature: Any) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in (
        "string",
        "large_string",
        "float16",
        "float32",
        "float64",
    )


def _are_fractions(tables: dict[str, Table], settings: DataSettings) -> bool:
    """Whether every label is a number, and not every one whole: stars are classes, also if they are written 4.0."""
    found = False
    for value in _distinct_labels(tables, settings):
        number = _number(value)
        if number is None:
            return False
        found = found or not number.is_integer()
    return found


def _distinct_labels(tables: dict[str, Table], settings: DataSettings) -> Iterator[Any]:
    """Those of each batch, without the rows that have none."""
    row_filter = RowFilter(settings)
    columns = [settings.label_column]
    if settings.row_filter:
        columns = list(dict.fromkeys([*columns, row_filter.column]))
    for split in SPLITS:
        for batch in tables[split].batches(columns) if split in tables else ():
            if settings.row_filter:
                batch = batch.filter(pa.array(row_filter.mask(batch, tables[split].features)))
            values = dictionary(batch.column(settings.label_column)).dictionary.to_pylist()
            yield from (value for value in values if not _is_missing(value))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value != value


def _number(value: Any) -> float | None:
    """A number, also one that is written as text; None for anything else, truth values and infinity among it, and
    for what 32 bits cannot hold."""
    if isinstance(value, str):
        number = float(value) if _NUMBER.fullmatch(value) else math.nan
    else:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    return number if abs(number) <= LARGEST else None


def _element(feature: Any) -> Any:
    """Of what a column of lists holds lists; None for any other column."""
    return feature.feature if isinstance(feature, datasets.List | datasets.LargeList) else None


class Classes(Encoder):
    """A label is one value, and each value a class."""

    @property
    def values(self) -> list[Any]:
        return list(self._known)

    def _number_of(self, stored: Any, feature: Any, place: _Place) -> float | None:
        value = named(stored, feature)
        if _is_missing(value):
            return None
        if not isinstance(value, str | int | float | bool):
            raise InputError(
                f"label {shown(value)} in {place} is of type {type(value).__name__}; a label is a string or a number. "
                f"Set label_column, or task."
            )
        return self._known.setdefault(value, len(self._known))


class LabelSets(Encoder):
    """A label is a set of values, and each set that occurs has a number; the empty one is like the others."""

    def __init__(self, settings: DataSettings) -> None:
        super().__init__(settings)
        self._sets: dict[frozenset[Any], int] = {}

    @property
    def values(self) -> list[Any]:
        return [tuple(sorted(labels, key=self._known.__getitem__)) for labels in self._sets]

    def _number_of(self, stored: Any, feature: Any, place: _Place) -> float | None:
        if stored is None:
            return None
        element = _element(feature)
        labels = self._parted(stored, place) if element is None else _listed(stored, element, place)
        for label in labels:
            self._known.setdefault(label, len(self._known))
        return self._sets.setdefault(frozenset(labels), len(self._sets))

    def _parted(self, stored: Any, place: _Place) -> list[Any]:
        if not isinstance(stored, str):
            raise InputError(
                f"label {shown(stored)} in {place} is of type {type(stored).__name__}; in task {Task.MULTI_LABEL} it "
                f"is a list of labels, or a string of them. Set label_column, or task."
            )
        if not self._separator:
            raise InputError(
                f"label {shown(stored)} in {place} is one string, and task is {Task.MULTI_LABEL}. Set label_separator "
                f"to what stands between the labels of column {self._column!r}."
            )
        return [label for part in stored.split(self._separator) if (label := part.strip())]


def _listed(stored: list[Any], element: Any, place: _Place) -> list[Any]:
    labels = [named(label, element) for label in stored]
    for label in labels:
        if not isinstance(label, str | int | float | bool) or _is_missing(label):
            raise InputError(
                f"the labels {shown(stored)} in {place} hold {shown(label)}; each label is a string or a number. "
                f"Mend the source, or set label_column."
            )
    # Flags, one for each label that there is, would pass for the labels 0 and 1.
    if (len(set(labels)) < len(labels) and not isinstance(labels[0], str)) or any(
        isinstance(label, bool) for label in labels
    ):
        raise InputError(
            f"the labels {shown(stored)} in {place} are flags, or name one more than once. If they are flags, write "
            f"the names of those that are set in their place."
        )
    return labels


class Numbers(Encoder):
    """A label is a number, and stands for itself."""

    kind = np.float64
    missing = np.nan

    @property
    def values(self) -> list[Any]:
        return []

    def _number_of(self, stored: Any, feature: Any, place: _Place) -> float | None:
        value = named(stored, feature)
        if _is_missing(value):
            return None
        number = _number(value)
        if number is None:
            raise InputError(
                f"label {shown(value)} in {place} is no number, as task {Task.REGRESSION} needs it. Set label_column, "
                f"or task."
            )
        return number
