"""What the labels are made of: classes, labels of which a text may have several, or numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow as pa

from miniml.data.duplicates import Mask
from miniml.data.encoding import Codes
from miniml.data.findings import Findings, Passage
from miniml.data.label_names import alike, tell_doubtful
from miniml.data.pool import Ints, Pool
from miniml.errors import InputError
from miniml.escaping import listed, shown
from miniml.settings.data import DataSettings
from miniml.tasks.task import Task

# Parts of the range of a regression's numbers, each of which every split is to have its share of.
MAX_RANGES, ROWS_PER_RANGE = 10, 20


class Labels(Protocol):
    """The labels of a dataset, and how they are written and kept in proportion."""

    @property
    def names(self) -> list[str]:
        """Of the classes, in the order of their numbers; none in a regression."""
        ...

    @property
    def feature(self) -> Any:
        """The type of the column `label`."""
        ...

    @property
    def strata(self) -> int:
        """How many parts the rows fall into, each of which is to be split in proportion."""
        ...

    def strata_of(self, codes: Codes) -> Ints:
        """The part of each row, by the pool's numbers; -1 for what has left the dataset."""
        ...

    def column(self, codes: Codes) -> pa.Array:
        """The column `label` of rows."""
        ...

    def lacking(self, codes: Codes) -> str | None:
        """Something, in words, that none of the rows has and a model could not learn, or be tested on."""
        ...


def find_labels(pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Labels:
    """The labels, in a ClassLabel's own order, others sorted, numbers by their value.

    Clears `kept` of classes with too few rows, where the settings say so.

    Raises:
        InputError: a class has too few rows, fewer than two are left, or `label_names` names another number.
    """
    find: dict[Task, Callable[[Pool, Mask, DataSettings, Findings], Labels]] = {
        Task.SINGLE_LABEL: _find_classes,
        Task.MULTI_LABEL: _find_label_sets,
        Task.REGRESSION: _find_numbers,
    }
    return find[pool.task](pool, kept, settings, findings)


@dataclass(frozen=True)
class Classes:
    """One of them for every text."""

    names: list[str]
    codes: list[int]
    """The pool's number of each."""

    @property
    def feature(self) -> Any:
        return datasets.ClassLabel(names=self.names)

    @property
    def strata(self) -> int:
        return len(self.codes)

    def strata_of(self, codes: Codes) -> Ints:
        table = np.full(max(self.codes) + 2, -1, np.int64)
        table[self.codes] = np.arange(len(self.codes))
        numbers: Ints = table[np.minimum(codes, len(table) - 1)]
        return numbers

    def column(self, codes: Codes) -> pa.Array:
        return pa.array(self.strata_of(codes))

    def lacking(self, codes: Codes) -> str | None:
        present = set(codes.tolist())
        return next(
            (
                f"class {shown(name)}"
                for name, code in zip(self.names, self.codes, strict=True)
                if code not in present
            ),
            None,
        )


@dataclass(frozen=True)
class LabelSets:
    """Any number of them for every text, also none."""

    names: list[str]
    numbers: list[list[int]]
    """By the pool's number of a set, the numbers of its labels."""
    rarest: Ints
    """By the pool's number of a set, its label that the fewest rows have, by which it is kept in proportion; the sets
    without labels make one more part."""

    @property
    def feature(self) -> Any:
        return datasets.List(datasets.ClassLabel(names=self.names))

    @property
    def strata(self) -> int:
        return len(self.names) + 1

    def strata_of(self, codes: Codes) -> Ints:
        parts: Ints = self.rarest[codes]
        return parts

    def column(self, codes: Codes) -> pa.Array:
        return pa.array([self.numbers[code] for code in codes.tolist()], pa.list_(pa.int64()))

    def lacking(self, codes: Codes) -> str | None:
        present = {number for code in set(codes.tolist()) for number in self.numbers[code]}
        missing = set(range(len(self.names))) - present
        return f"label {shown(self.names[min(missing)])}" if missing else None


@dataclass(frozen=True)
class Numbers:
    """One for every text."""

    edges: np.ndarray[Any, np.dtype[np.float64]]
    """Between the ranges that are kept in proportion."""
    source: str
    """The column that they stood in."""

    @property
    def names(self) -> list[str]:
        return []

    @property
    def feature(self) -> Any:
        return datasets.Value("float32")

    @property
    def strata(self) -> int:
        return len(self.edges) + 1

    def strata_of(self, codes: Codes) -> Ints:
        return np.searchsorted(self.edges, codes, side="right")

    def column(self, codes: Codes) -> pa.Array:
        return pa.array(codes.astype(np.float32))

    def lacking(self, codes: Codes) -> str | None:
        return None if len(codes) else f"column {self.source!r}"


def _find_classes(pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Classes:
    counts = np.bincount(pool.facts.label[kept], minlength=len(pool.label_values))
    present = [code for code in range(len(pool.label_values)) if counts[code]]
    rows_of = {pool.label_values[code]: int(counts[code]) for code in present}
    tell_doubtful(pool, kept, findings)
    rare = [code for code in present if counts[code] < settings.min_rows_per_class]
    if len(present) < 2:
        raise _too_few([pool.label_values[code] for code in present], settings)
    for code in sorted(rare, key=lambda code: sorting_key(pool.label_values[code])):
        value = pool.label_values[code]
        if not settings.drop_rare_classes:
            raise _too_rare("class", value, rows_of, int(counts.sum()), settings)
        kept[kept & (pool.facts.label == code)] = False
        _tell_rare(value, int(counts[code]), findings)
    code_of = {pool.label_values[code]: code for code in present if code not in rare}
    values = _ordered(list(code_of), pool.label_order)
    if len(values) < 2:
        raise _too_few(values, settings)
    return Classes(_names(values, settings), [code_of[value] for value in values])


def _find_label_sets(pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> LabelSets:
    tell_doubtful(pool, kept, findings)
    while True:  # With the rows of a rare label go labels of others, which then may be rare.
        counts = _rows_of_labels(pool, kept)
        if len(counts) < 2:
            raise _too_few(list(counts), settings)
        if min(counts.values()) == int(kept.sum()):
            raise InputError(
                f"column {settings.label_column!r}: every row has all of the labels {listed(map(str, counts))}. If "
                f"they are flags, write the names of those that are set in their place; else set label_column."
            )
        rarest = min(counts, key=lambda label: (counts[label], sorting_key(label)))
        if counts[rarest] >= settings.min_rows_per_class:
            break
        if not settings.drop_rare_classes:
            raise _too_rare("label", rarest, counts, int(kept.sum()), settings)
        having = [rarest in labels for labels in pool.label_values]
        kept[kept & np.array(having)[pool.facts.label]] = False
        _tell_rare(rarest, counts[rarest], findings)
    values = _ordered(list(counts), pool.label_order)
    place = {value: number for number, value in enumerate(values)}
    numbers = [sorted(place[label] for label in labels if label in place) for labels in pool.label_values]
    rows_of = [counts[value] for value in values]
    return LabelSets(
        _names(values, settings),
        numbers,
        np.array([min(having, key=rows_of.__getitem__, default=len(values)) for having in numbers]),
    )


def _rows_of_labels(pool: Pool, kept: Mask) -> Counter[Any]:
    """How many rows have each label, of those that some row has."""
    sets = np.bincount(pool.facts.label[kept], minlength=len(pool.label_values))
    counts: Counter[Any] = Counter()
    for labels, rows in zip(pool.label_values, sets.tolist(), strict=True):
        counts.update(dict.fromkeys(labels, rows))
    return +counts


def _find_numbers(pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Numbers:
    values = pool.facts.label[kept]
    if settings.label_names:
        raise InputError(
            f"label_names is {settings.label_names!r}, but column {settings.label_column!r} holds numbers to predict "
            f"({pool.task}), which have no names. Leave label_names out, or set task={Task.SINGLE_LABEL}."
        )
    if len(values) < settings.min_rows_per_class or values.min() == values.max():
        raise InputError(
            f"column {settings.label_column!r} has {len(set(values.tolist()))} different numbers in {len(values)} rows "
            f"of distinct texts: too few to learn from and to test. Collect more, or set label_column."
        )
    ranges = min(MAX_RANGES, max(1, len(values) // ROWS_PER_RANGE))
    return Numbers(np.unique(np.quantile(values, np.arange(1, ranges) / ranges)), settings.label_column)


def numbers_of(pool: Pool, rows: Mask) -> dict[str, float]:
    """What the labels of these rows are like, where they are numbers; see `DatasetSummary.numbers`."""
    if pool.task != Task.REGRESSION:
        return {}
    values = pool.facts.label[rows]
    return {
        "least": float(values.min()),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "most": float(values.max()),
        "deviation": float(values.std()),
    }


def _too_rare(
    kind: str, value: Any, rows_of: Mapping[Any, int], total: int, settings: DataSettings
) -> InputError:
    return InputError(
        f"{kind} {shown(value)} has {rows_of[value]} rows of {total:,}{alike(value, rows_of)}, too few to split: it "
        f"needs {settings.min_rows_per_class} of distinct texts (min_rows_per_class). Collect more, set "
        f"drop_rare_classes=True, or, if column {settings.label_column!r} holds no classes, set label_column."
    )


def _tell_rare(value: Any, rows: int, findings: Findings) -> None:
    findings.add("rare_class", rows, dropped=True)
    findings.show("rare_class", Passage.of(f"{rows} rows", str(value), str(value)))


def _too_few(values: list[Any], settings: DataSettings) -> InputError:
    left = f"one class only ({shown(values[0])})" if values else "no class left"
    return InputError(
        f"column {settings.label_column!r} has {left}; a classifier needs 2 or more. Set label_column, or check "
        f"row_filter and min_rows_per_class."
    )


def _ordered(values: list[Any], order: list[str] | None) -> list[Any]:
    return sorted(values, key=order.index if order is not None else sorting_key)


def _names(values: list[Any], settings: DataSettings) -> list[str]:
    if not settings.label_names:
        return [str(value) for value in values]
    names = [name.strip() for name in settings.label_names.split(",")]
    if len(names) != len(values) or len(set(names)) != len(names) or not all(names):
        raise InputError(
            f"label_names {settings.label_names!r} names {len(names)} classes; column {settings.label_column!r} "
            f"has {len(values)}: {listed(map(str, values))}. Give one distinct name for each, in this order."
        )
    return names


def sorting_key(value: Any) -> tuple[bool, float, str]:
    """Numbers, also those written as text, by value ("10" after "9") and before words."""
    number = re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", str(value))
    return (number is None, float(number[0]) if number else 0.0, str(value))
