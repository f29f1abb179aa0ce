"""What the labels of a dataset are found to be, and what classes and labels have in common: order and names."""

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


def too_few(values: list[Any], settings: DataSettings) -> InputError:
    """Gives the error of fewer than two classes or labels."""
    left = f"one class only ({shown(values[0])})" if values else "no class left"
    return InputError(
        f"column {settings.label_column!r} has {left}; a classifier needs 2 or more. Set label_column, or check "
        f"row_filter and min_rows_per_class."
    )


def ordered(values: list[Any], order: list[str] | None) -> list[Any]:
    """Gives labels in a ClassLabel's own `order`, or else sorted."""
    return sorted(values, key=order.index if order is not None else sorting_key)


def names_of(values: list[Any], settings: DataSettings) -> list[str]:
    """Gives the names of labels, which `label_names` may have renamed.

    Raises:
        InputError: `label_names` names another number of them, or one twice.
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
    """Numbers, also those written as text, by value ("10" after "9") and before words."""
    number = re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", str(value))
    return (number is None, float(number[0]) if number else 0.0, str(value))
