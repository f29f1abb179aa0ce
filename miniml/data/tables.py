"""Reads rows from any source: the hub, an S3 store, a saved dataset, or CSV, TSV, JSON and Parquet files.

Rows come in Arrow batches, in the order of the source. Files are read and not mapped into memory: the pages of a
mapped file count as the process's own, so that memory would grow with the source.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa

from miniml.data.formats.arrow_types import in_plain_types, plain_columns
from miniml.data.formats.csv_file import csv_table
from miniml.data.formats.json_file import json_tables
from miniml.data.formats.listing import FORMATS, files_by_split
from miniml.data.formats.parquet_file import parquet_table
from miniml.data.formats.source_file import SourceFile
from miniml.data.formats.table import Table, alike, chained, trimmed
from miniml.errors import InputError
from miniml.escaping import listed
from miniml.files.portions import ROWS_AT_A_TIME
from miniml.sources.address import locate
from miniml.sources.source import FetchedSplits

__all__ = ["Table", "read"]


def read(dataset_id: str, scratch: Path) -> tuple[dict[str, Table], str]:
    """Finds the splits of a source; a source without splits has one, "train".

    Args:
        dataset_id: The source.
        scratch: The folder for unpacked and converted files, which must exist while the tables are read.

    Returns:
        The tables by split, and the source's address, with the digest of its content if it is in an S3 store.

    Raises:
        InputError: The source does not exist, has no known format, or cannot be read.
        HubError: The hub does not give it.
        StoreError: The S3 store does not give it.
        StorageError: The disk has no room for the unpacked files.
    """
    fetched = locate("dataset_id", dataset_id).fetch_dataset()
    if isinstance(fetched, FetchedSplits):
        return _of_datasets(fetched.splits, whole=fetched.are_whole), fetched.address
    return _read_path(dataset_id, fetched.path, scratch), fetched.address


def _read_path(dataset_id: str, source: Path, scratch: Path) -> dict[str, Table]:
    if source.is_dir() and any((source / name).exists() for name in ("dataset_dict.json", "state.json")):
        return _of_datasets(_read_saved(source))
    with _naming(dataset_id):
        files = files_by_split(source, Path(tempfile.mkdtemp(dir=scratch)))
        parts = {
            split: [part for file in of_split for part in _parts(file, scratch)]
            for split, of_split in files.items()
        }
        for split, tables in parts.items():
            if not any(part.rows != 0 for part in tables):
                names = listed((file.name for file in files[split]), 5)
                raise InputError(
                    f"{names} has no rows below its header, or none at all. Give a file with rows."
                )
        # Over all splits, since the labels of the test split are those of the training split.
        same = iter(alike([trimmed(part) for tables in parts.values() for part in tables]))
        return {
            split: _with_named_errors(dataset_id, chained([next(same) for _ in tables]))
            for split, tables in parts.items()
        }


@contextmanager
def _naming(dataset_id: str) -> Iterator[None]:
    """Adds the dataset's name to input errors."""
    try:
        yield
    except InputError as error:
        raise InputError(f"dataset_id {dataset_id!r}: {error}") from error


def _with_named_errors(dataset_id: str, table: Table) -> Table:
    """Returns the table with the dataset's name in its errors."""

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _naming(dataset_id):
            yield from table.batches(columns)

    return replace(table, batches=batches)


def _parts(file: SourceFile, scratch: Path) -> list[Table]:
    form = FORMATS[file.suffix]
    if form == "json":
        return json_tables(file, scratch)
    return [csv_table(file, scratch) if form == "csv" else parquet_table(file)]


def _of_datasets(splits: datasets.DatasetDict, *, whole: bool = True) -> dict[str, Table]:
    return {split: _of_dataset(split, dataset, whole) for split, dataset in splits.items()}


def _of_dataset(split: str, dataset: datasets.Dataset, whole: bool) -> Table:
    """Returns a split's table, which reads the files if the split is all of them, or else through the library."""
    files = [entry["filename"] for entry in dataset.cache_files]
    streamed = whole and files and dataset._indices is None

    def stored(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if not streamed:
            chosen = dataset.select_columns(list(columns)).with_format("arrow")
            for table in chosen.iter(batch_size=ROWS_AT_A_TIME):
                yield from table.combine_chunks().to_batches()
            return
        for file in files:
            with pa.OSFile(file) as opened, pa.ipc.open_stream(opened) as reader:
                for batch in reader:
                    yield batch.select(list(columns))

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        begin = 0
        for batch in stored(columns):
            yield in_plain_types(batch, f"split {split!r}", begin)
            begin += batch.num_rows

    # A ClassLabel is a number to Arrow: the dataset's own features say more.
    plain, unusable = plain_columns(dataset.features.arrow_schema, f"split {split!r}")
    kept = {
        name: plain[name] if isinstance(feature, datasets.Value) else feature
        for name, feature in dataset.features.items()
        if name in plain
    }
    return Table(datasets.Features(kept), batches, len(dataset), f"split {split!r}", unusable)


def _read_saved(folder: Path) -> datasets.DatasetDict:
    try:
        loaded = datasets.load_from_disk(str(folder))
    except IndexError as error:  # The library fails so where a split was saved without a table.
        raise InputError(
            f"dataset_id {str(folder)!r} has a split without rows. Leave it out, or give it rows."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"dataset_id {str(folder)!r} is not a folder that save_to_disk wrote completely: {str(error)[:200]}"
        ) from error
    return loaded if isinstance(loaded, datasets.DatasetDict) else datasets.DatasetDict(train=loaded)
