"""Reads a source's columns, whatever their Arrow types: distinct values, names of a ClassLabel, and the row filter."""

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
    """Returns the column dictionary-encoded: its values, and the number of its value for each row.

    Lists are an exception: each row's list is a value of its own.
    """
    if pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_nested(column.type):  # Arrow does not compare lists.
        return pa.DictionaryArray.from_arrays(pa.array(range(len(column)), pa.int32()), column)
    return pc.dictionary_encode(column)


def named(value: Any, feature: Any) -> Any:
    """Returns a value of the column; for a ClassLabel, the name of its number.

    Args:
        value: The value, as Arrow has it.
        feature: The column's type, of the datasets library.
    """
    if not isinstance(feature, datasets.ClassLabel):
        return value
    # Datasets of the hub have -1 where the labels of a test split are kept secret.
    return None if value in (None, -1) else feature.int2str(value)


class RowFilter:
    """Applies the setting `row_filter` to batches of rows, and counts the values that it sees."""

    def __init__(self, settings: DataSettings) -> None:
        self.column, _, self._wanted = settings.row_filter.partition("=")
        self.reads: Counter[str] = Counter()
        """The number of rows of each value, for the first values that were seen."""

    def mask(self, batch: pa.RecordBatch, features: datasets.Features) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Returns a mask of shape (rows,), which is true for the rows that the filter keeps."""
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
