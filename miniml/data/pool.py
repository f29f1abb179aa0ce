"""Holds the usable rows of a source: their texts in an Arrow file, and a few bytes for each row in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from miniml.task import Task

Ints = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Facts:
    """An entry for every row of the pool, in the order of the source."""

    split: np.ndarray[Any, np.dtype[np.uint8]]
    """The number (in `SPLITS`) of the source's own split, of shape (rows,), as all arrays here."""
    row: np.ndarray[Any, np.dtype[np.uint32]]
    """The row's number in that split of the source, from 0."""
    label: np.ndarray[Any, Any]
    """The number (int32) of the label's value, in order of appearance; in a regression the label itself (float64)."""
    digest: np.ndarray[Any, np.dtype[np.uint64]]
    """128 bits of BLAKE2b of the text, with normalised white space, of shape (rows, 2)."""
    group: np.ndarray[Any, np.dtype[np.uint64]] | None
    """A hash of the row's group, or of its text if it has none; None without `group_column`."""

    @property
    def text_hash(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """64 bits of the digest, by which rows are put into a random order."""
        return self.digest[:, 0]

    def __len__(self) -> int:
        return len(self.split)


@dataclass(frozen=True)
class Pool:
    """The usable rows of a source."""

    file: Path
    """An Arrow file with the column `text` and the columns to carry along, all of them strings."""
    starts: Ints
    """The number in the pool of each batch's first row, and the number of rows, of shape (batches + 1,)."""
    facts: Facts
    task: Task
    label_values: list[Any]
    """The source's labels in order of appearance, as names if it has a ClassLabel. They are values, or tuples of the
    values of one text; empty in a regression."""
    label_order: list[str] | None
    """The names of a ClassLabel in its own order; None for any other column."""
    rows_read: int

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields all rows in batches, each with the number of its first row."""
        with pa.OSFile(str(self.file)) as opened:
            reader = pa.ipc.open_file(opened)
            for number in range(reader.num_record_batches):
                yield int(self.starts[number]), reader.get_batch(number)

    def texts(self, rows: Ints) -> Iterator[tuple[int, str]]:
        """Yields the numbers and texts of rows, which must be sorted; only the batches that hold them are read."""
        batch_of = np.searchsorted(self.starts, rows, side="right") - 1
        with pa.OSFile(str(self.file)) as opened:
            reader = pa.ipc.open_file(opened)
            for number in np.unique(batch_of).tolist():
                wanted = rows[batch_of == number]
                texts = reader.get_batch(number).column("text").take(pa.array(wanted - self.starts[number]))
                yield from zip(wanted.tolist(), texts.to_pylist(), strict=True)

    def texts_of(self, rows: list[int]) -> dict[int, str]:
        """Returns the texts of a few rows, given in any order."""
        return dict(self.texts(np.unique(np.array(rows, np.int64))))
