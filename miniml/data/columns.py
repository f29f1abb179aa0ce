"""A source's columns, whatever Arrow holds them as: each value once, a ClassLabel's by its name, rows by a filter."""

from __future__ import annotations

from collections import Counter
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miniml.settings.data import DataSettings

# More values than this are no classes: free text, ids or prices.
MAX_CLASSES = 10_000


def dictionary(column: pa.Array) -> pa.DictionaryArray:
    """Each value once, and every row by its value's number."""
    if pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_nested(column.type):  # Arrow cannot tell lists apart.
        return pa.DictionaryArray.from_arrays(pa.array(range(len(column)), pa.int32()), column)
    return pc.dictionary_encode(column)


def named(value: Any, feature: Any) -> Any:
    """A ClassLabel's name in place of its number."""
    if not isinstance(feature, datasets.ClassLabel):
        return value
    # -1 is what the hub's datasets write where a test split's labels are kept secret.
    return None if value in (None, -1) else feature.int2str(value)


class RowFilter:
    """`row_filter`, and what it came across."""

    def __init__(self, settings: DataSettings) -> None:
        self.column, _, self._wanted = settings.row_filter.partition("=")
        self.reads: Counter[str] = Counter()
        """How many rows have each value, of the first values."""

    def mask(self, batch: pa.RecordBatch, features: datasets.Features) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows it lets through."""
        encoded = dictionary(batch.column(self.column))
        values = [str(named(value, features[self.column])) for value in encoded.dictionary.to_pylist()]
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        if len(self.reads) < MAX_CLASSES:
            for code, rows in zip(*np.unique(codes[codes >= 0], return_counts=True), strict=True):
                self.reads[values[code]] += int(rows)
        # The last entry is for rows that have no value.
        matches = np.array([value == self._wanted for value in values] + [self._wanted == "None"])
        mask: np.ndarray[Any, np.dtype[np.bool_]] = matches[codes]
        return mask
