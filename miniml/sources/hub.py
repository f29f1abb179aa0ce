"""Fetches datasets and models from the Hugging Face hub, and explains failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.dataset
from datasets.packaged_modules.parquet.parquet import ParquetConfig
from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from miniml.errors import InputError
from miniml.files.portions import BYTES_AT_A_TIME, ROWS_AT_A_TIME
from miniml.progress import logger, watched
from miniml.sources.hub_access import cache_of, explained, probe
from miniml.sources.hub_id import HubId

UNREADABLE = (EntryNotFoundError, datasets.exceptions.DatasetsError)
"""The errors of the libraries for a repository that has nothing of what was requested."""

# Configuration, tokenizer and weights at the root of the repository. Many repositories also have the same weights in
# other frameworks' formats, which are not fetched.
MODEL_FILES = ["*.json", "*.txt", "*.model"]
WEIGHT_FILES = ["*.safetensors"]
# For repositories without other weights. They are pickles; transformers reads the numbers and runs no code.
PICKLED_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
NOT_MODEL_FILES = ["*/*"]


def load_dataset(source: HubId) -> datasets.DatasetDict:
    """Loads the splits of a dataset; a single requested one is named "train". No code of the repository is run.

    Raises:
        InputError: the repository, configuration, split or revision does not exist.
        HubError: the hub refuses, fails, or cannot be reached.
    """
    logger.info(f"asking the hub for {source.name}")
    with explained("dataset_id", source, UNREADABLE):
        probe(source, "dataset")
        try:
            with watched(f"fetching and unpacking {source.name},", lambda: _cached_bytes(source, "dataset")):
                loaded = _load(source)
        except ValueError as error:  # Its message lists the existing configurations or splits.
            raise InputError(
                f"dataset_id {source.name!r}: {error} Name one as "
                f"{source.name}?config=... (and &split=..., &revision=...)."
            ) from error
    if isinstance(loaded, datasets.DatasetDict):
        return loaded
    return datasets.DatasetDict(train=loaded)


def _load(source: HubId) -> Any:
    """Loads like `datasets.load_dataset`, but in little memory.

    That function would hold a whole row group of a Parquet file in memory, and pandas may write a million rows into
    one.
    """
    download = datasets.DownloadConfig(max_retries=2)
    builder = datasets.load_dataset_builder(
        source.name, source.config, revision=source.revision, download_config=download
    )
    if isinstance(builder.config, ParquetConfig):
        builder.config.batch_size = ROWS_AT_A_TIME
        builder.config.fragment_scan_options = pa.dataset.ParquetFragmentScanOptions(
            use_buffered_stream=True, buffer_size=BYTES_AT_A_TIME, pre_buffer=False
        )
    builder.download_and_prepare(download_config=download)
    return builder.as_dataset(split=source.split)


def _cached_bytes(source: HubId, kind: str) -> int:
    """Returns the bytes of a repository in the libraries' caches, partial files included."""
    folders = [cache_of(source, kind) / "blobs"]
    if kind == "dataset":
        folders.append(Path(datasets.config.HF_DATASETS_CACHE) / source.name.replace("/", "___"))
    # Unlike rglob, os.walk tolerates folders that are renamed meanwhile.
    files = [Path(folder, name) for root in folders for folder, _, names in os.walk(root) for name in names]
    return sum(map(_size, files))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # It was renamed when it was complete.
        return 0


def fetch_model(source: HubId, weights: bool = True) -> Path:
    """Fetches a model, and returns the folder with its configuration, tokenizer and weights.

    Args:
        source: The model's repository.
        weights: Whether to fetch the weights: safetensors, or pickles where the repository has no others.

    Raises:
        InputError: the repository or revision does not exist.
        HubError: the hub refuses, fails, or cannot be reached.
    """
    logger.info(f"asking the hub for {source.name}")
    folder = _fetch(source, MODEL_FILES + WEIGHT_FILES if weights else MODEL_FILES)
    if not weights or any(folder.glob("*.safetensors")):
        return folder
    folder = _fetch(source, MODEL_FILES + PICKLED_WEIGHTS)
    if any(folder.glob("*.bin")):
        logger.info(
            f"{source.name} has no safetensors: its pickled weights are read without running what is in them"
        )
    return folder


def fetch_file(source: HubId, name: str) -> Path:
    """Returns the folder that holds the model's file `name`, if it has one; its weights are not fetched.

    Raises:
        InputError: the repository or revision does not exist.
        HubError: the hub refuses, fails, or cannot be reached.
    """
    logger.info(f"asking the hub for {name} of {source.name}")
    return _fetch(source, [name])


def _fetch(source: HubId, files: list[str]) -> Path:
    with explained("model_id", source, UNREADABLE):
        probe(source, "model")
        with watched(f"fetching {source.name},", lambda: _cached_bytes(source, "model")):
            return Path(
                snapshot_download(
                    source.name,
                    revision=source.revision,
                    allow_patterns=files,
                    ignore_patterns=NOT_MODEL_FILES,
                )
            )
