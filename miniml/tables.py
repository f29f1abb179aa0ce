"""Reads rows from any source: the hub, an S3 store, a saved dataset, or CSV, TSV, JSON Lines and Parquet files.

Rows come in Arrow batches, in the order of the source. Files are read and not mapped into memory: the pages of a
mapped file count as the process's own, so that memory would grow with the source.
"""

from __future__ import annotations

import gzip
import re
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from miniml import hub
from miniml.errors import InputError
from miniml.portions import BYTES_AT_A_TIME, ROWS_AT_A_TIME
from miniml.sources import HubId, S3Address, locate

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}

# train.csv, reviews-test.jsonl, drugsComTrain.tsv; but not latest.csv or contest.csv.
_SPLIT_IN_NAME = re.compile(
    r"(?:(?<![a-z])|(?<=[a-z])(?=[A-Z]))(?P<split>[Tt]rain|TRAIN|[Tt]est|TEST|[Vv]al|VAL|[Dd]ev|DEV)"
)
_SPLITS = {"train": "train", "test": "test", "val": "validation", "dev": "validation"}


@dataclass(frozen=True)
class Table:
    """The rows of one split, which are read as they are asked for."""

    features: datasets.Features
    """The columns and their types, in the source's order."""
    batches: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    """Reads these columns, from the first row to the last, anew at every call."""
    rows: int | None = None
    """How many there are, where that is known before they are read."""

    @property
    def columns(self) -> list[str]:
        return list(self.features)


def read(dataset_id: str, scratch: Path) -> tuple[dict[str, Table], str]:
    """Finds the splits of `dataset_id`; a source that has none becomes the one split "train".

    The second result is `dataset_id` again, with the digest of the content where it came from an S3 store.

    What has to be unpacked or converted goes to the folder `scratch`, which the rows are read from later on.

    Raises:
        InputError: it is not there, is of no known format, or cannot be read.
        HubError: the hub did not give it.
        StoreError: the S3 store did not give it.
    """
    source = locate("dataset_id", dataset_id)
    if isinstance(source, HubId):
        # "train[:10%]" is a part of what its files hold.
        whole = "[" not in (source.split or "")
        return _of_datasets(hub.load_dataset(source), whole=whole), dataset_id
    if isinstance(source, S3Address):
        from miniml import store  # Only here: reading anything else needs no S3 client.

        fetched = store.cached("dataset_id", source)
        return _read_path(dataset_id, fetched.path, scratch), fetched.source
    return _read_path(dataset_id, source, scratch), dataset_id


def _read_path(dataset_id: str, source: Path, scratch: Path) -> dict[str, Table]:
    if source.is_dir() and any((source / name).exists() for name in ("dataset_dict.json", "state.json")):
        return _of_datasets(_read_saved(source))
    files = _by_split(_data_files(source, scratch))
    form = FORMATS[next(iter(files.values()))[0].suffix.lower()]
    if form == "json":
        return _of_datasets(_read_json(dataset_id, files, scratch))
    read_one = _csv_table if form == "csv" else _parquet_table
    return {
        split: _chained(dataset_id, [read_one(dataset_id, file) for file in parts], parts)
        for split, parts in files.items()
    }


def _of_datasets(splits: datasets.DatasetDict, *, whole: bool = True) -> dict[str, Table]:
    return {split: _of_dataset(dataset, whole) for split, dataset in splits.items()}


def _of_dataset(dataset: datasets.Dataset, whole: bool) -> Table:
    """Of the dataset's files, where it is all that they hold; else through the library, which maps them."""
    files = [entry["filename"] for entry in dataset.cache_files]
    streamed = whole and files and dataset._indices is None

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if not streamed:
            chosen = dataset.select_columns(list(columns)).with_format("arrow")
            for table in chosen.iter(batch_size=ROWS_AT_A_TIME):
                yield from table.combine_chunks().to_batches()
            return
        for file in files:
            with pa.OSFile(file) as opened, pa.ipc.open_stream(opened) as reader:
                for batch in reader:
                    yield batch.select(list(columns))

    return Table(dataset.features, batches, len(dataset))


def _chained(dataset_id: str, tables: list[Table], files: list[Path]) -> Table:
    """One table of several files, which must have the same columns."""
    first = tables[0]
    for table, file in zip(tables, files, strict=True):
        if set(table.columns) != set(first.columns):
            raise InputError(
                f"dataset_id {dataset_id!r}: {file.name} has the columns {', '.join(table.columns)}; "
                f"{files[0].name} has {', '.join(first.columns)}. Give files of the same columns."
            )

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for table in tables:
            yield from table.batches(columns)

    counts = [table.rows for table in tables]
    return Table(first.features, batches, None if None in counts else sum(filter(None, counts)))


def _read_saved(folder: Path) -> datasets.DatasetDict:
    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise InputError(
            f"dataset_id {str(folder)!r} is not a folder that save_to_disk wrote whole: {error}"
        ) from error
    return loaded if isinstance(loaded, datasets.DatasetDict) else datasets.DatasetDict(train=loaded)


def _data_files(source: Path, scratch: Path) -> list[Path]:
    """The files of a known format that `source` is, holds or packs."""
    files = [path for path in sorted(source.rglob("*")) if path.is_file()] if source.is_dir() else [source]
    unpacked = [file for path in files for file in _unpack(path, scratch / "unpacked")]
    known = [path for path in unpacked if path.suffix.lower() in FORMATS]
    if not known:
        found = ", ".join(path.name for path in unpacked[:5]) or "nothing"
        raise InputError(
            f"dataset_id {str(source)!r} holds no data file; it has: {found}. "
            f"Known are {', '.join(FORMATS)}, zipped or gzipped or not."
        )
    formats = {path.suffix.lower() for path in known}
    if len(formats) > 1:
        raise InputError(
            f"dataset_id {str(source)!r} mixes {' and '.join(sorted(formats))} files. "
            f"Keep one format in the folder, or name one file."
        )
    return known


def _unpack(path: Path, folder: Path) -> list[Path]:
    try:
        if path.suffix.lower() == ".zip":
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
                archive.extractall(folder, names)
            return [file for name in sorted(names) if (file := folder / name).is_file()]
        if path.suffix.lower() == ".gz":
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / path.stem
            with gzip.open(path) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
            return [target]
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError) as error:
        raise InputError(
            f"{str(path)!r} cannot be unpacked: {error}. Was it copied or downloaded whole?"
        ) from error
    return [path]


def _read_json(dataset_id: str, files: dict[str, list[Path]], scratch: Path) -> datasets.DatasetDict:
    try:
        loaded = datasets.load_dataset(
            "json",
            data_files={split: [str(path) for path in paths] for split, paths in files.items()},
            cache_dir=str(scratch / "arrow"),
        )
    except (datasets.exceptions.DatasetsError, ValueError) as error:
        raise _unreadable(dataset_id, "JSON", error.__cause__ or error) from error
    assert isinstance(loaded, datasets.DatasetDict)
    return loaded


def _unreadable(dataset_id: str, form: str, reason: BaseException) -> InputError:
    return InputError(
        f"dataset_id {dataset_id!r} cannot be read as {form} ({reason}). "
        f"Is it that format, in UTF-8, with the same columns in every row?"
    )


def _parquet_table(dataset_id: str, file: Path) -> Table:
    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            # A buffer, as a row group may be as large as the file.
            with pa.parquet.ParquetFile(file, buffer_size=BYTES_AT_A_TIME, pre_buffer=False) as opened:
                yield from opened.iter_batches(ROWS_AT_A_TIME, columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(dataset_id, f"Parquet: {file.name}", error) from error

    try:
        with pa.parquet.ParquetFile(file) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(dataset_id, f"Parquet: {file.name}", error) from error
    return Table(datasets.Features.from_arrow_schema(schema), batches, rows)


def _csv_table(dataset_id: str, file: Path) -> Table:
    """Every column as text: a review may read "None" or "NA", and a column of numbers may turn to words later on."""
    names = _csv_header(dataset_id, file)

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        options = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(columns),
            strings_can_be_null=False,
        )
        try:
            with _open_csv(file, options) as reader:
                yield from reader
        except pa.ArrowInvalid as error:
            if "straddl" in str(error):
                raise InputError(
                    f"dataset_id {dataset_id!r}: a row of {file.name} is larger than {BYTES_AT_A_TIME >> 20} MiB. Is a "
                    f"quotation mark left open, or the separator another? Parquet takes longer texts."
                ) from error
            raise _unreadable(dataset_id, f"CSV: {file.name}", error) from error

    return Table(datasets.Features({name: datasets.Value("string") for name in names}), batches)


def _csv_header(dataset_id: str, file: Path) -> list[str]:
    if not file.stat().st_size:
        raise InputError(f"dataset_id {dataset_id!r}: {file.name} is empty. Give a file with rows.")
    try:
        with _open_csv(file, pa.csv.ConvertOptions()) as reader:
            names: list[str] = reader.schema.names
            rows = any(batch.num_rows for batch in reader)
    except pa.ArrowInvalid as error:
        raise _unreadable(dataset_id, f"CSV: {file.name}", error) from error
    if not rows:
        raise InputError(f"dataset_id {dataset_id!r}: {file.name} has no rows below its header.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"dataset_id {dataset_id!r}: {file.name} has two columns {twice[0]!r}. Rename one.")
    return names


def _open_csv(file: Path, options: pa.csv.ConvertOptions) -> pa.csv.CSVStreamingReader:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    return pa.csv.open_csv(
        file,
        read_options=pa.csv.ReadOptions(block_size=BYTES_AT_A_TIME, use_threads=False),
        parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=options,
    )


def _by_split(files: list[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names tell; where they tell no training split, all are one."""
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        told = _SPLIT_IN_NAME.search(path.stem)
        splits[_SPLITS[told["split"].lower()] if told else "train"].append(path)
    return dict(splits) if "train" in splits else {"train": files}
