"""Writes the splits for `datasets.load_from_disk`, shuffled with only a part of them in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miniml.data.labels import Labels
from miniml.data.pool import Ints, Pool
from miniml.data.prepared import GROUP, SPLITS
from miniml.data.randomness import Hashes, shuffled
from miniml.data.splitting import Assignment
from miniml.data.texts import string_buffers
from miniml.task_registry import beyond_default

# The rows that are shuffled in memory at a time.
BUCKET_BYTES = 16 << 20
# Each bucket is an open file, of which macOS allows a process 256.
MAX_BUCKETS = 128
SHARD_BYTES = 256 << 20
# The rows of a record batch, which is read as a whole to read one row.
ROWS_TOGETHER = 1000

_POSITION = "position"


@dataclass(frozen=True)
class Written:
    """The numbers of rows and the fingerprint of a dataset that was written."""

    rows: dict[str, int]
    """The number of rows by split."""
    rows_per_class: dict[str, dict[str, int]]
    """The number of rows by split, then by label."""
    fingerprint: str
    """SHA-256 (hexadecimal) of the dataset (see `DatasetSummary.fingerprint`)."""


def write_splits(
    pool: Pool, assignment: Assignment, labels: Labels, seed: int, scratch: Path, folder: Path
) -> Written:
    """Writes a folder for each split, with its rows in random order.

    Rows go to buckets by their new position, and each bucket is sorted when it is complete. So a shuffle of any size
    takes two passes over the disk.

    Args:
        pool: The rows.
        assignment: The split of each row, of shape (rows of the pool,).
        labels: The labels of the dataset.
        seed: The seed of the order.
        scratch: The folder for the buckets.
        folder: The folder of the dataset.
    """
    carried = pool_columns(pool)[1:]
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": labels.feature,
            **({GROUP: datasets.Value("int64")} if pool.facts.group is not None else {}),
            **{name: datasets.Value("string") for name in carried},
        }
    )
    facts: list[Any] = [labels.names, carried]
    facts += beyond_default(pool.task)
    digest = hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode())
    rows, per_class = {}, {}
    buckets = _Buckets(pool, assignment, labels, seed, scratch)
    for number, split in enumerate(SPLITS):
        with _Shards(folder / split, features, len(labels.names)) as written:
            for table in buckets.tables(number):
                written.add(table)
        rows[split] = written.rows
        per_class[split] = dict(zip(labels.names, written.classes.tolist(), strict=True))
        digest.update(f"\n{split}\n{written.digest()}".encode())
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(SPLITS)}), encoding="utf-8")
    return Written(rows, per_class, digest.hexdigest())


def pool_columns(pool: Pool) -> list[str]:
    """Returns the names of the columns in the pool's file: `text` first, then those to carry along."""
    with pa.OSFile(str(pool.file)) as opened:
        names: list[str] = pa.ipc.open_file(opened).schema.names
    return names


class _Buckets:
    """Holds the rows on disk, in buckets by split and new position."""

    def __init__(self, pool: Pool, assignment: Assignment, labels: Labels, seed: int, scratch: Path) -> None:
        self._labels = labels
        self._folder = scratch / "buckets"
        self._folder.mkdir()
        mean_bytes = pool.file.stat().st_size / max(1, len(pool.facts))
        kept = int((assignment >= 0).sum())
        size = max(1, int(BUCKET_BYTES / mean_bytes), -(-kept // (MAX_BUCKETS - len(SPLITS))))
        position = np.zeros(len(assignment), np.int64)
        bucket = np.full(len(assignment), -1, np.int32)
        self._of_split: list[list[int]] = []
        for number in range(len(SPLITS)):
            order = shuffled(np.flatnonzero(assignment == number), pool.facts.text_hash, seed, "order")
            position[order] = np.arange(len(order))
            begin = sum(map(len, self._of_split))
            bucket[order] = begin + position[order] // size
            self._of_split.append(list(range(begin, begin - (-len(order) // size))))
        self._fill(pool, bucket, position)

    def _fill(self, pool: Pool, bucket: np.ndarray[Any, np.dtype[np.int32]], position: Ints) -> None:
        with ExitStack() as open_files:
            writers: dict[int, Any] = {}
            for start, batch in pool.batches():
                here = bucket[start : start + batch.num_rows]
                order = np.argsort(here, kind="stable")
                order = order[np.searchsorted(here[order], 0) :]
                if not len(order):
                    continue
                rows = start + order
                arranged = batch.take(pa.array(order))
                if pool.facts.group is not None:
                    arranged = arranged.add_column(1, GROUP, _group_numbers(pool.facts.group[rows]))
                arranged = arranged.add_column(1, "label", self._labels.column(pool.facts.label[rows]))
                arranged = arranged.append_column(_POSITION, pa.array(position[rows]))
                numbers, begins = np.unique(here[order], return_index=True)
                for number, begin, end in zip(
                    numbers.tolist(), begins.tolist(), [*begins[1:].tolist(), len(order)], strict=True
                ):
                    if number not in writers:
                        file = open_files.enter_context(pa.OSFile(str(self._file(number)), "wb"))
                        writers[number] = open_files.enter_context(pa.ipc.new_stream(file, arranged.schema))
                    writers[number].write_batch(arranged.slice(begin, end - begin))

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.arrow"

    def tables(self, split: int) -> Iterator[pa.Table]:
        """Yields the rows of a split in their new order, one bucket at a time."""
        for number in self._of_split[split]:
            with pa.OSFile(str(self._file(number))) as opened, pa.ipc.open_stream(opened) as reader:
                table = reader.read_all()
            self._file(number).unlink()
            order = np.argsort(table.column(_POSITION).to_numpy(), kind="stable")
            yield table.drop_columns([_POSITION]).take(pa.array(order)).combine_chunks()


class _Shards:
    """Writes one split: Arrow streams of a bounded size, and the datasets library's metadata."""

    def __init__(self, folder: Path, features: datasets.Features, classes: int) -> None:
        # The library writes its metadata when it saves an empty dataset.
        datasets.Dataset.from_dict({name: [] for name in features}, features=features).save_to_disk(
            str(folder)
        )
        for file in folder.glob("*.arrow"):
            file.unlink()
        self._folder, self._schema = folder, features.arrow_schema
        self._files: list[Path] = []
        self._open: ExitStack | None = None
        self._writer: Any = None
        self.rows = 0
        self.classes = np.zeros(classes, np.int64)
        self._hashes = {name: (hashlib.sha256(), hashlib.sha256()) for name in features}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and not self._files:
            self._begin_shard()
        with suppress(OSError) if kind else nullcontext():  # The first error is the one to raise.
            self._end_shard()
        if kind is None:
            self._name_shards()

    def add(self, table: pa.Table) -> None:
        """Writes rows, and adds them to the digest and the counts."""
        if self._open is None or self._files[-1].stat().st_size > SHARD_BYTES:
            self._begin_shard()
        table = table.cast(self._schema)
        self.rows += table.num_rows
        if len(self.classes):
            numbers = _flat(table.column("label").combine_chunks()).to_numpy()
            self.classes += np.bincount(numbers, minlength=len(self.classes))
        for batch in table.to_batches():
            for name, (content, lengths) in self._hashes.items():
                column = batch.column(name)
                values, lengths_of = _bytes_of(column)
                content.update(values)
                lengths.update(lengths_of)
        for batch in table.to_batches(max_chunksize=ROWS_TOGETHER):
            self._writer.write_batch(batch)

    def _begin_shard(self) -> None:
        self._end_shard()
        self._files.append(self._folder / f"part-{len(self._files)}")
        self._open = ExitStack()
        file = self._open.enter_context(pa.OSFile(str(self._files[-1]), "wb"))
        self._writer = self._open.enter_context(pa.ipc.new_stream(file, self._schema))

    def _end_shard(self) -> None:
        if self._open is not None:
            self._open.close()

    def digest(self) -> str:
        """Returns a digest of every column's values and lengths, which does not depend on the batches."""
        return " ".join(part.hexdigest() for pair in self._hashes.values() for part in pair)

    def _name_shards(self) -> None:
        names = []
        for number, file in enumerate(self._files):
            names.append(f"data-{number:05d}-of-{len(self._files):05d}.arrow")
            file.rename(self._folder / names[-1])
        state_file = self._folder / "state.json"
        state = json.loads(state_file.read_text(encoding="utf-8"))
        state["_data_files"] = [{"filename": name} for name in names]
        # The library's cache identifies a dataset by this.
        state["_fingerprint"] = hashlib.sha256(self.digest().encode()).hexdigest()[:16]
        state_file.write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


def _group_numbers(hashes: Hashes) -> pa.Array:
    """Returns the groups as int64 that are not negative."""
    return pa.array((hashes >> np.uint64(1)).astype(np.int64))


def _flat(column: pa.Array) -> pa.Array:
    """Returns the entries of all lists of a column of lists, and any other column unchanged."""
    return column.flatten() if pa.types.is_list(column.type) else column


def _bytes_of(column: pa.Array) -> tuple[bytes, bytes]:
    """Returns the bytes of all values, and those of the lengths of strings or lists."""
    if pa.types.is_string(column.type):
        starts, data = string_buffers(column)
        return data.tobytes(), np.diff(starts).astype("<i4").tobytes()
    numbers = _flat(column).to_numpy()
    values = numbers.astype("<f4" if numbers.dtype.kind == "f" else "<i8").tobytes()
    lengths = pc.list_value_length(column).to_numpy() if pa.types.is_list(column.type) else np.zeros(0)
    return values, lengths.astype("<i4").tobytes()
