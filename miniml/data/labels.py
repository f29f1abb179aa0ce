"""Defines the interface of a dataset's labels, and the order and names of classes."""

from __future__ import annotations

import re
from typing import Any, Protocol

import pyarrow as pa

from miniml.data.encoding import Codes
from miniml.data.pool import Ints
from miniml.errors import InputError
from miniml.escaping import listed, shown
from miniml.settings.data import DataSettings


class Labels(Protocol):
    """The labels of a dataset: their names, their column and their strata."""

    @property
    def names(self) -> list[str]:
        """The names of the classes, in the order of their numbers; empty in a regression."""
        ...

    @property
    def feature(self) -> Any:
        """The type of the column `label`."""
        ...

    @property
    def strata(self) -> int:
        """The number of strata, each of which is split in proportion."""
        ...

    def strata_of(self, codes: Codes) -> Ints:
        """Returns the stratum of each row, of shape (rows,), from the pool's numbers; -1 if left out."""
        ...

    def column(self, codes: Codes) -> pa.Array:
        """Returns the column `label` of rows, from the pool's numbers."""
        ...

    def lacking(self, codes: Codes) -> str | None:
        """Returns a description of a class that none of the rows has, or None if all have rows."""
        ...


def too_few(values: list[Any], settings: DataSettings) -> InputError:
    """Returns the error for fewer than two classes or labels."""
    left = f"one class only ({shown(values[0])})" if values else "no class left"
    return InputError(
        f"column {settings.label_column!r} has {left}; a classifier needs 2 or more. Set label_column, or check "
        f"row_filter and min_rows_per_class."
    )


def ordered(values: list[Any], order: list[str] | None) -> list[Any]:
    """Returns labels in a ClassLabel's own `order`, or sorted if it is None."""
    return sorted(values, key=order.index if order is not None else sorting_key)


def names_of(values: list[Any], settings: DataSettings) -> list[str]:
    """Returns the names of labels, from `label_names` if it is set.

    Raises:
        InputError: `label_names` names another number of labels, or one name twice.
    """
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
    """Returns a sorting key that puts numbers, also those in strings, before words and by value: "10" after "9"."""
    number = re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", str(value))
    return (number is None, float(number[0]) if number else 0.0, str(value))
