"""Datasets and models from the Hugging Face hub, or a clear word on why they did not come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.dataset
from datasets.packaged_modules.parquet.parquet import ParquetConfig
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from miniml.errors import HubError, InputError, MinimlError
from miniml.portions import BYTES_AT_A_TIME, ROWS_AT_A_TIME
from miniml.progress import note, watched
from miniml.sources import HubId

# Seconds that the hub may take to say that it knows the repository, and again that it can send a file of it.
# Without the question first, a hub that hangs would be asked for minutes: the libraries try every file, and
# every file several times.
PROBE_TIMEOUT = 10.0

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
    note(f"asking the hub for {source.name}")
    with _explained("dataset_id", source):
        _probe(source, "dataset")
        try:
            with watched(f"fetching and unpacking {source.name},", lambda: _cached_bytes(source, "datasets")):
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
    folders = [Path(constants.HF_HUB_CACHE) / f"{kind}--{source.name.replace('/', '--')}" / "blobs"]
    if kind == "datasets":
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
    note(f"asking the hub for {source.name}")
    folder = _fetch(source, MODEL_FILES + WEIGHT_FILES if weights else MODEL_FILES)
    if not weights or any(folder.glob("*.safetensors")):
        return folder
    folder = _fetch(source, MODEL_FILES + PICKLED_WEIGHTS)
    if any(folder.glob("*.bin")):
        note(
            f"{source.name} has no safetensors: its pickled weights are read without running what is in them"
        )
    return folder


def fetch_tokenizer(source: HubId) -> Path:
    """The folder that holds the model's tokenizer.json, if it has one; its weights are not fetched.

    Raises:
        InputError: the repository or revision does not exist.
        HubError: the hub refuses, fails, or cannot be reached.
    """
    note(f"asking the hub for the tokenizer of {source.name}")
    return _fetch(source, ["tokenizer.json"])


def _fetch(source: HubId, files: list[str]) -> Path:
    with _explained("model_id", source):
        _probe(source, "model")
        with watched(f"fetching {source.name},", lambda: _cached_bytes(source, "models")):
            return Path(
                snapshot_download(
                    source.name,
                    revision=source.revision,
                    allow_patterns=files,
                    ignore_patterns=NOT_MODEL_FILES,
                )
            )


def _probe(source: HubId, kind: str) -> None:
    if constants.HF_HUB_OFFLINE:
        return
    info = HfApi().repo_info(source.name, revision=source.revision, repo_type=kind, timeout=PROBE_TIMEOUT)
    files = getattr(info, "siblings", None)
    if files:
        address = hf_hub_url(source.name, files[0].rfilename, repo_type=kind, revision=source.revision)
        get_hf_file_metadata(address, timeout=PROBE_TIMEOUT)


@contextmanager
def _explained(argument: str, source: HubId) -> Iterator[None]:
    try:
        yield
    except MinimlError:
        raise
    except Exception as error:
        raise _explanation(f"{argument} {source.name!r}", source, error) from error


def _explanation(asked: str, source: HubId, error: Exception) -> MinimlError:
    """Libraries wrap what the hub said in their own errors: the cause that says most is looked for."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, GatedRepoError):
            return HubError(
                f"{asked}: the hub gives it only to those who accepted its terms. Accept them on its page, and set "
                f"HF_TOKEN."
            )
        if isinstance(cause, RevisionNotFoundError):
            return InputError(
                f"{asked} has no revision {source.revision!r}. Leave it out, or name one that there is."
            )
        if isinstance(cause, RepositoryNotFoundError) and _status(cause) == 404:
            return InputError(
                f"{asked} is not on the hub ({constants.ENDPOINT}). Check the spelling; if it is private, set HF_TOKEN."
            )
    for cause in causes:
        if (status := _status(cause)) is not None:
            return _refusal(asked, status)
    if constants.HF_HUB_OFFLINE and any(
        isinstance(cause, OfflineModeIsEnabled | LocalEntryNotFoundError) for cause in causes
    ):
        return HubError(
            f"{asked} is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub. Unset it, or give a path."
        )
    if any(isinstance(cause, EntryNotFoundError | datasets.exceptions.DatasetsError) for cause in causes):
        return InputError(f"{asked} holds nothing that can be read: {error}")
    return HubError(
        f"{asked}: the hub ({constants.ENDPOINT}) cannot be reached ({_shortest(error)}). Check the network and "
        f"HF_ENDPOINT, set HF_HUB_OFFLINE=1 to take what the cache holds, or give a path."
    )


def _refusal(asked: str, status: int) -> MinimlError:
    if status in (401, 403):
        return HubError(
            f"{asked}: the hub refused access ({status}). Check the spelling; if it is private, set HF_TOKEN to a "
            f"token that may read it."
        )
    if status == 404:
        return InputError(
            f"{asked} is not on the hub ({constants.ENDPOINT}). Check the spelling; if it is private, set HF_TOKEN."
        )
    return HubError(f"{asked}: the hub answered {status}. Try again later, or give a local copy.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    if isinstance(error, HfHubHTTPError):
        return int(error.response.status_code)
    return None


def _shortest(error: Exception) -> str:
    return min((f"{type(cause).__name__}: {cause}" for cause in _causes(error)), key=len)[:200]
