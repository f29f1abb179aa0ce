"""Reads and checks labels of which a text may have any number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from miniml.data.columns import named
from miniml.data.encoding import Codes, Encoder, Place, is_missing
from miniml.data.findings import Findings
from miniml.data.label_column import LabelColumn, element_of
from miniml.data.label_names import report_doubtful
from miniml.data.label_scheme import LabelScheme
from miniml.data.labels import Labels, names_of, ordered, sorting_key, too_few
from miniml.data.pool import Ints, Mask, Pool
from miniml.data.rare_labels import tell_rare, too_rare
from miniml.errors import InputError
from miniml.escaping import listed, shown
from miniml.settings.data import DataSettings
from miniml.tasks.multi_label.task import MULTI_LABEL


class LabelSetEncoder(Encoder):
    """Numbers the sets of labels that rows have; the empty set is one of them."""

    def __init__(self, settings: DataSettings) -> None:
        super().__init__(settings)
        self._sets: dict[frozenset[Any], int] = {}

    @property
    def values(self) -> list[Any]:
        return [tuple(sorted(labels, key=self.known.__getitem__)) for labels in self._sets]

    def number_of(self, stored: Any, feature: Any, place: Place) -> float | None:
        if stored is None:
            return None
        element = element_of(feature)
        labels = self._parted(stored, place) if element is None else _listed(stored, element, place)
        for label in labels:
            self.known.setdefault(label, len(self.known))
        return self._sets.setdefault(frozenset(labels), len(self._sets))

    def _parted(self, stored: Any, place: Place) -> list[Any]:
        if not isinstance(stored, str):
            raise InputError(
                f"label {shown(stored)} in {place} is of type {type(stored).__name__}; in task {MULTI_LABEL} it "
                f"is a list of labels, or a string of them. Set label_column, or task."
            )
        if not self.separator:
            raise InputError(
                f"label {shown(stored)} in {place} is one string, and task is {MULTI_LABEL}. Set label_separator "
                f"to what stands between the labels of column {self.column!r}."
            )
        return [label for part in stored.split(self.separator) if (label := part.strip())]


def _listed(stored: list[Any], element: Any, place: Place) -> list[Any]:
    labels = [named(label, element) for label in stored]
    for label in labels:
        if not isinstance(label, str | int | float | bool) or is_missing(label):
            raise InputError(
                f"the labels {shown(stored)} in {place} hold {shown(label)}; each label is a string or a number. "
                f"Correct the source, or set label_column."
            )
    # Flags, one for each possible label, would be taken for the labels 0 and 1.
    if (len(set(labels)) < len(labels) and not isinstance(labels[0], str)) or any(
        isinstance(label, bool) for label in labels
    ):
        raise InputError(
            f"the labels {shown(stored)} in {place} are flags, or name one more than once. If they are flags, write "
            f"the names of those that are set in their place."
        )
    return labels


@dataclass(frozen=True)
class FoundLabelSets:
    """The labels of a dataset in which a text has any number of them."""

    names: list[str]
    numbers: list[list[int]]
    """The numbers of the labels of each set, by the pool's number of the set."""
    rarest: Ints
    """The rarest label of each set, by the pool's number of the set, by which splits are stratified; the empty set is
    a stratum of its own."""

    @property
    def feature(self) -> Any:
        """The feature of the column `label` of the prepared dataset."""
        return datasets.List(datasets.ClassLabel(names=self.names))

    @property
    def strata(self) -> int:
        """The number of parts that every split gets its share of."""
        return len(self.names) + 1

    def strata_of(self, codes: Codes) -> Ints:
        """Returns the part that each row belongs to, shape [rows]."""
        parts: Ints = self.rarest[codes]
        return parts

    def column(self, codes: Codes) -> pa.Array:
        """Returns the column `label` of the rows, by the encoder's number of each."""
        return pa.array([self.numbers[code] for code in codes.tolist()], pa.list_(pa.int64()))

    def lacking(self, codes: Codes) -> str | None:
        """Returns, in words, a label that none of the rows has; None where there is none."""
        present = {number for code in set(codes.tolist()) for number in self.numbers[code]}
        missing = set(range(len(self.names))) - present
        return f"label {shown(self.names[min(missing)])}" if missing else None


class LabelSets(LabelScheme):
    """The scheme of labels of which a text may have any number."""

    encoder = LabelSetEncoder

    def recognises(self, column: LabelColumn) -> str:
        if not column.separator and element_of(column.feature) is None:
            return ""
        return f"column {column.name!r} holds several labels a text: task {self.task}"

    def find_labels(self, pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Labels:
        report_doubtful(pool, kept, findings)
        while True:  # Dropping a rare label's rows may make other labels rare.
            counts = _rows_of_labels(pool, kept)
            if len(counts) < 2:
                raise too_few(list(counts), settings)
            if min(counts.values()) == int(kept.sum()):
                raise InputError(
                    f"column {settings.label_column!r}: every row has all of the labels {listed(map(str, counts))}. If "
                    f"they are flags, write the names of those that are set in their place; else set label_column."
                )
            rarest = min(counts, key=lambda label: (counts[label], sorting_key(label)))
            if counts[rarest] >= settings.min_rows_per_class:
                break
            if not settings.drop_rare_classes:
                raise too_rare("label", rarest, counts, int(kept.sum()), settings)
            having = [rarest in labels for labels in pool.label_values]
            kept[kept & np.array(having)[pool.facts.label]] = False
            tell_rare(rarest, counts[rarest], findings)
        values = ordered(list(counts), pool.label_order)
        place = {value: number for number, value in enumerate(values)}
        numbers = [sorted(place[label] for label in labels if label in place) for labels in pool.label_values]
        rows_of = [counts[value] for value in values]
        return FoundLabelSets(
            names_of(values, settings),
            numbers,
            np.array([min(having, key=rows_of.__getitem__, default=len(values)) for having in numbers]),
        )

    def labels_of(self, value: Any) -> tuple[Any, ...]:
        labels: tuple[Any, ...] = value
        return labels

    def value_of(self, labels: tuple[Any, ...]) -> Any:
        return labels

    def written(self, code: Any, values: list[Any]) -> Any:
        return ", ".join(map(str, values[code])) or "no label"


def _rows_of_labels(pool: Pool, kept: Mask) -> Counter[Any]:
    """Counts the rows of each label that some row has."""
    sets = np.bincount(pool.facts.label[kept], minlength=len(pool.label_values))
    counts: Counter[Any] = Counter()
    for labels, rows in zip(pool.label_values, sets.tolist(), strict=True):
        counts.update(dict.fromkeys(labels, rows))
    return +counts
