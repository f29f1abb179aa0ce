"""Reads and checks labels that are one class for each text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from miniml.data.columns import named
from miniml.data.encoding import Codes, Encoder, Place, is_missing
from miniml.data.findings import Findings
from miniml.data.label_names import report_doubtful
from miniml.data.label_scheme import LabelScheme
from miniml.data.labels import Labels, names_of, ordered, sorting_key, too_few
from miniml.data.pool import Ints, Mask, Pool
from miniml.data.rare_labels import tell_rare, too_rare
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.data import DataSettings


class ClassEncoder(Encoder):
    """Numbers the classes, one for each value."""

    @property
    def values(self) -> list[Any]:
        return list(self.known)

    def number_of(self, stored: Any, feature: Any, place: Place) -> float | None:
        value = named(stored, feature)
        if is_missing(value):
            return None
        if not isinstance(value, str | int | float | bool):
            raise InputError(
                f"label {shown(value)} in {place} is of type {type(value).__name__}; a label is a string or a number. "
                f"Set label_column, or task."
            )
        return self.known.setdefault(value, len(self.known))


@dataclass(frozen=True)
class FoundClasses:
    """The classes of a dataset in which a text has one."""

    names: list[str]
    codes: list[int]
    """The pool's number of each class."""

    @property
    def feature(self) -> Any:
        """The feature of the column `label` of the prepared dataset."""
        return datasets.ClassLabel(names=self.names)

    @property
    def strata(self) -> int:
        """The number of parts that every split gets its share of."""
        return len(self.codes)

    def strata_of(self, codes: Codes) -> Ints:
        """Returns the part that each row belongs to, shape [rows]."""
        lookup = np.full(max(self.codes) + 2, -1, np.int64)
        lookup[self.codes] = np.arange(len(self.codes))
        numbers: Ints = lookup[np.minimum(codes, len(lookup) - 1)]
        return numbers

    def column(self, codes: Codes) -> pa.Array:
        """Returns the column `label` of the rows, by the encoder's number of each."""
        return pa.array(self.strata_of(codes))

    def lacking(self, codes: Codes) -> str | None:
        """Returns, in words, a label that none of the rows has; None where there is none."""
        present = set(codes.tolist())
        return next(
            (
                f"class {shown(name)}"
                for name, code in zip(self.names, self.codes, strict=True)
                if code not in present
            ),
            None,
        )


class Classes(LabelScheme):
    """The scheme of labels that are one class for each text."""

    encoder = ClassEncoder

    def find_labels(self, pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Labels:
        counts = np.bincount(pool.facts.label[kept], minlength=len(pool.label_values))
        present = [code for code in range(len(pool.label_values)) if counts[code]]
        rows_of = {pool.label_values[code]: int(counts[code]) for code in present}
        report_doubtful(pool, kept, findings)
        rare = [code for code in present if counts[code] < settings.min_rows_per_class]
        if len(present) < 2:
            raise too_few([pool.label_values[code] for code in present], settings)
        for code in sorted(rare, key=lambda code: sorting_key(pool.label_values[code])):
            value = pool.label_values[code]
            if not settings.drop_rare_classes:
                raise too_rare("class", value, rows_of, int(counts.sum()), settings)
            kept[kept & (pool.facts.label == code)] = False
            tell_rare(value, int(counts[code]), findings)
        code_of = {pool.label_values[code]: code for code in present if code not in rare}
        values = ordered(list(code_of), pool.label_order)
        if len(values) < 2:
            raise too_few(values, settings)
        return FoundClasses(names_of(values, settings), [code_of[value] for value in values])
