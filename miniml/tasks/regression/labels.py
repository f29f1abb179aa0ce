"""Reads and checks labels that are numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from miniml.data.columns import named
from miniml.data.encoding import Codes, Encoder, Place, is_missing
from miniml.data.findings import Findings
from miniml.data.label_column import LabelColumn
from miniml.data.label_scheme import LabelScheme
from miniml.data.labels import Labels
from miniml.data.numbers import describe_numbers
from miniml.data.pool import Ints, Mask, Pool
from miniml.data.prepared import DatasetSummary
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.data import DataSettings
from miniml.task_registry import DEFAULT
from miniml.tasks.regression.task import REGRESSION

# Ranges of the numbers, by which splits are stratified, and the rows that each needs.
MAX_RANGES, ROWS_PER_RANGE = 10, 20
MAX_NUMBER = float(np.finfo(np.float32).max)
_NUMBER = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*")


class NumberEncoder(Encoder):
    """Reads labels as numbers, which need no encoding."""

    kind = np.float64
    missing = np.nan

    @property
    def values(self) -> list[Any]:
        return []

    def number_of(self, stored: Any, feature: Any, place: Place) -> float | None:
        value = named(stored, feature)
        if is_missing(value):
            return None
        number = _number(value)
        if number is None:
            raise InputError(
                f"label {shown(value)} in {place} is no number, as task {REGRESSION} needs it. Set label_column, "
                f"or task."
            )
        return number


@dataclass(frozen=True)
class FoundNumbers:
    """The labels of a dataset in which a text has a number."""

    edges: np.ndarray[Any, np.dtype[np.float64]]
    """The boundaries of the ranges by which splits are stratified."""
    source: str
    """The name of their column in the source."""

    @property
    def names(self) -> list[str]:
        """The names of the labels, in the order of their numbers."""
        return []

    @property
    def feature(self) -> Any:
        """The feature of the column `label` of the prepared dataset."""
        return datasets.Value("float32")

    @property
    def strata(self) -> int:
        """The number of parts that every split gets its share of."""
        return len(self.edges) + 1

    def strata_of(self, codes: Codes) -> Ints:
        """Returns the part that each row belongs to, shape [rows]."""
        return np.searchsorted(self.edges, codes, side="right")

    def column(self, codes: Codes) -> pa.Array:
        """Returns the column `label` of the rows, by the encoder's number of each."""
        return pa.array(codes.astype(np.float32))

    def lacking(self, codes: Codes) -> str | None:
        """Returns, in words, a label that none of the rows has; None where there is none."""
        return None if len(codes) else f"column {self.source!r}"


class Numbers(LabelScheme):
    """The scheme of labels that are numbers."""

    encoder = NumberEncoder

    def recognises(self, column: LabelColumn) -> str:
        if not _may_hold_fractions(column.feature) or not _are_fractions(column):
            return ""
        return (
            f"column {column.name!r} holds numbers with fractions: task {self.task} "
            f"(task={DEFAULT} makes classes of them)"
        )

    def find_labels(self, pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Labels:
        values = pool.facts.label[kept]
        if settings.label_names:
            raise InputError(
                f"label_names is {settings.label_names!r}, but column {settings.label_column!r} holds numbers to "
                f"predict ({self.task}), which have no names. Leave label_names out, or set task={DEFAULT}."
            )
        if len(values) < settings.min_rows_per_class or values.min() == values.max():
            raise InputError(
                f"column {settings.label_column!r} has {len(set(values.tolist()))} different numbers in {len(values)} "
                f"rows of distinct texts: too few to learn from and to test. Collect more, or set label_column."
            )
        ranges = min(MAX_RANGES, max(1, len(values) // ROWS_PER_RANGE))
        return FoundNumbers(
            np.unique(np.quantile(values, np.arange(1, ranges) / ranges)), settings.label_column
        )

    def written(self, code: Any, values: list[Any]) -> Any:
        return float(code)

    def numbers(self, labels: Codes) -> dict[str, float]:
        return describe_numbers(labels)

    def summary(self, data: DatasetSummary) -> str:
        of = data.numbers
        return f"numbers from {of['least']:g} to {of['most']:g}, {of['mean']:.4g} on average"

    def tile(self, data: DatasetSummary) -> tuple[str, str]:
        return "Numbers, mean", f"{data.numbers['mean']:.4g}"


def _may_hold_fractions(feature: Any) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in (
        "string",
        "large_string",
        "float16",
        "float32",
        "float64",
    )


def _are_fractions(column: LabelColumn) -> bool:
    """Whether all labels are numbers, and some are not whole; ratings such as 4.0 are classes."""
    found = False
    for value in column.distinct_labels():
        number = _number(value)
        if number is None:
            return False
        found = found or not number.is_integer()
    return found


def _number(value: Any) -> float | None:
    """Returns a number, also from text; None for anything else, for truth values, infinity and what float32 cannot
    hold."""
    if isinstance(value, str):
        number = float(value) if _NUMBER.fullmatch(value) else math.nan
    else:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    return number if abs(number) <= MAX_NUMBER else None
