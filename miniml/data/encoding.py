"""Encodes the label column as a number for each row: of its class, of its set of labels, or the label itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from miniml.data.columns import MAX_CLASSES, dictionary
from miniml.errors import InputError
from miniml.settings.data import DataSettings

Codes = np.ndarray[Any, Any]


class Encoder(ABC):
    """Encodes the label column, batch by batch."""

    kind: type = np.int32
    """The type of the numbers."""
    missing: float = -1
    """The number of a row without a label."""

    def __init__(self, settings: DataSettings) -> None:
        self.column, self.separator = settings.label_column, settings.label_separator
        self.known: dict[Any, int] = {}
        """Classes or labels, in order of appearance."""

    @property
    @abstractmethod
    def values(self) -> list[Any]:
        """The class or tuple of labels that each number stands for; empty if the numbers are the labels."""

    @abstractmethod
    def number_of(self, stored: Any, feature: Any, place: Place) -> float | None:
        """Returns the number of a value of the column, or None if it is no label.

        Args:
            stored: The value.
            feature: The column's type, of the datasets library.
            place: Where the source has the value, for messages.

        Raises:
            InputError: The value is not of the task's kind.
        """

    def encode(self, column: pa.Array, feature: Any, place_of: Callable[[int], str]) -> Codes:
        """Returns a number for each row of a batch.

        Args:
            column: The labels, of shape (rows,).
            feature: The column's type, of the datasets library.
            place_of: Returns where the source has a row of this batch, for messages.

        Raises:
            InputError: A label is not of the task's kind, and the message names the row; or there are too many classes.
        """
        encoded = dictionary(column)
        indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        # The last entry is for rows that have no value.
        codes: Codes = np.full(len(encoded.dictionary) + 1, self.missing, self.kind)
        for entry, stored in enumerate(encoded.dictionary.to_pylist()):
            number = self.number_of(stored, feature, Place(indices, entry, place_of))
            codes[entry] = self.missing if number is None else number
        if len(self.known) > MAX_CLASSES:
            raise InputError(
                f"column {self.column!r} holds more than {MAX_CLASSES:,} different values, which are no classes. "
                f"Set label_column, or, if they are numbers to predict, set task=regression."
            )
        of_rows: Codes = codes[indices]
        return of_rows


@dataclass(frozen=True)
class Place:
    """The place of a value in the source, which is looked up only for a message."""

    indices: Codes
    """The batch's values as indices of its dictionary, of shape (rows,)."""
    entry: int
    """The value's index in the dictionary."""
    place_of: Callable[[int], str]
    """Returns the place of a row of the batch."""

    def __str__(self) -> str:
        return self.place_of(int(np.argmax(self.indices == self.entry)))


def unlabelled(codes: Codes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns a mask of the rows without a label, of shape (rows,)."""
    missing: np.ndarray[Any, np.dtype[np.bool_]] = np.isnan(codes) if codes.dtype.kind == "f" else codes < 0
    return missing


def is_missing(value: Any) -> bool:
    """Tells whether a value of the column stands for no label."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value
