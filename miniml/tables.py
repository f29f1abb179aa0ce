"""Reads rows from any source: the hub, an S3 store, a saved dataset, or CSV, TSV, JSON Lines and Parquet files."""

from __future__ import annotations

import gzip
import re
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import datasets
import pandas

from miniml import hub
from miniml.errors import InputError
from miniml.sources import HubId, S3Address, locate

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}

# train.csv, reviews-test.jsonl, drugsComTrain.tsv; but not latest.csv or contest.csv.
_SPLIT_IN_NAME = re.compile(
    r"(?:(?<![a-z])|(?<=[a-z])(?=[A-Z]))(?P<split>[Tt]rain|TRAIN|[Tt]est|TEST|[Vv]al|VAL|[Dd]ev|DEV)"
)
_SPLITS = {"train": "train", "test": "test", "val": "validation", "dev": "validation"}


def read(dataset_id: str, scratch: Path) -> tuple[datasets.DatasetDict, str]:
    """Reads `dataset_id` into splits; a source that has none becomes the one split "train".

    The second result is `dataset_id` again, with the digest of the content where it came from an S3 store.

    What has to be unpacked or converted goes to the folder `scratch`, which the rows are read from
    until they are copied.

    Raises:
        InputError: it is not there, is of no known format, or cannot be read.
        HubError: the hub did not give it.
        StoreError: the S3 store did not give it.
    """
    source = locate("dataset_id", dataset_id)
    if isinstance(source, HubId):
        return hub.load_dataset(source), dataset_id
    if isinstance(source, S3Address):
        from miniml import store  # Only here: reading anything else needs no S3 client.

        fetched = store.cached("dataset_id", source)
        return _read_path(dataset_id, fetched.path, scratch), fetched.source
    return _read_path(dataset_id, source, scratch), dataset_id


def _read_path(dataset_id: str, source: Path, scratch: Path) -> datasets.DatasetDict:
    if source.is_dir() and any((source / name).exists() for name in ("dataset_dict.json", "state.json")):
        return _read_saved(source)
    files = _data_files(source, scratch)
    return _read_files(dataset_id, files, scratch)


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


def _read_files(dataset_id: str, files: list[Path], scratch: Path) -> datasets.DatasetDict:
    form = FORMATS[files[0].suffix.lower()]
    options = _csv_options(dataset_id, files[0]) if form == "csv" else {}
    try:
        loaded = datasets.load_dataset(
            form,
            data_files={split: [str(path) for path in paths] for split, paths in _by_split(files).items()},
            cache_dir=str(scratch / "arrow"),
            **options,
        )
    except (datasets.exceptions.DatasetsError, ValueError) as error:
        reason = error.__cause__ or error
        raise InputError(
            f"dataset_id {dataset_id!r} cannot be read as {form.upper()} ({reason}). "
            f"Is it that format, in UTF-8, with the same columns in every row?"
        ) from error
    assert isinstance(loaded, datasets.DatasetDict)
    return loaded


def _csv_options(dataset_id: str, file: Path) -> dict[str, Any]:
    """Every column as text: a review may read "None" or "NA", and a column of numbers may turn to words later on."""
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        start = pandas.read_csv(file, sep=separator, nrows=1, dtype=str)
    except pandas.errors.EmptyDataError as error:
        raise InputError(
            f"dataset_id {dataset_id!r}: {file.name} is empty. Give a file with rows."
        ) from error
    except ValueError as error:
        raise InputError(
            f"dataset_id {dataset_id!r}: {file.name} cannot be read as CSV ({error}). Is it in UTF-8?"
        ) from error
    if start.empty:
        raise InputError(f"dataset_id {dataset_id!r}: {file.name} has no rows below its header.")
    features = datasets.Features({str(column): datasets.Value("string") for column in start.columns})
    return {"sep": separator, "features": features, "keep_default_na": False}


def _by_split(files: list[Path]) -> dict[str, list[Path]]:
    """Files by the split that their names tell; where they tell no training split, all are one."""
    splits: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        told = _SPLIT_IN_NAME.search(path.stem)
        splits[_SPLITS[told["split"].lower()] if told else "train"].append(path)
    return dict(splits) if "train" in splits else {"train": files}
