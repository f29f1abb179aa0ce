"""Datasets and models from the Hugging Face hub, or a clear word on why they did not come."""

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
"""What the libraries raise of a repository that holds nothing of what was asked for."""

# Configuration, tokenizer and weights that stand at the root: the same weights in other frameworks' formats,
# which many repositories carry too, stay where they are.
MODEL_FILES = ["*.json", "*.txt", "*.model"]
WEIGHT_FILES = ["*.safetensors"]
# Taken where a repository has no others. They are pickles, of which transformers reads the numbers and runs no code.
PICKLED_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
NOT_MODEL_FILES = ["*/*"]


def load_dataset(source: HubId) -> datasets.DatasetDict:
    """The dataset's splits; a single one that was asked for is called "train". No code of the repository is run.

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
        except ValueError as error:  # What it says names the configurations or splits that there are.
            raise InputError(
                f"dataset_id {source.name!r}: {error} Name one as "
                f"{source.name}?config=... (and &split=..., &revision=...)."
            ) from error
    if isinstance(loaded, datasets.DatasetDict):
        return loaded
    return datasets.DatasetDict(train=loaded)


def _load(source: HubId) -> Any:
    """What `datasets.load_dataset` does, but in little memory.

    It would hold all that a row group of a Parquet file holds, and a file that pandas wrote may have a million rows in
    its only one.
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
    """What the libraries' caches hold of a repository by now, files that are still coming included."""
    folders = [cache_of(source, kind) / "blobs"]
    if kind == "dataset":
        folders.append(Path(datasets.config.HF_DATASETS_CACHE) / source.name.replace("/", "___"))
    # Unlike rglob, it bears with folders that are renamed meanwhile.
    files = [Path(folder, name) for root in folders for folder, _, names in os.walk(root) for name in names]
    return sum(map(_size, files))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # Renamed, now that it is whole.
        return 0


def fetch_model(source: HubId, weights: bool = True) -> Path:
    """The folder that holds the model's configuration, tokenizer and weights, from the cache if it is there.

    The weights are safetensors, or pickles where the repository has no others; without `weights` none are fetched.

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
