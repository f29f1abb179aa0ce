"""Copies folders with checksums (see `miniml.files.checksums`) to a bucket, and downloads them elsewhere.

<prefix>/<name>/<path>          a file of the folder
<prefix>/<name>/sealed.json     its checksums: uploaded last and removed first, so a folder that has them is complete
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from miniml.errors import StoreError
from miniml.files.checksums import CHECKSUMS_NAME, read_checksums
from miniml.files.folders import written_whole
from miniml.files.listed_files import is_inside
from miniml.progress import logger
from miniml.store.address import S3Address
from miniml.store.connection import Bucket, RetryTimeouts, Stored
from miniml.store.parts import Part, download

RETRY_TIMEOUTS = RetryTimeouts(first=60.0, later=60.0)
"""Longer than the default at the beginning too: whether there is a checkpoint decides about hours of training."""
SECONDS_TO_SWEEP = 30.0
"""The time limit of `sweep`; the next call continues."""
_NAME = re.compile(r"[0-9a-f]{64}")
"""The name of a mirror's folder. `sweep` removes no others, since the address may hold anything."""


class Mirror:
    """Folders below an address of the store.

    Every method raises StoreError if the store refuses a request, or does not answer.
    """

    def __init__(self, argument: str, address: S3Address, timeouts: RetryTimeouts | None = None) -> None:
        """Sends no request yet.

        Args:
            argument: The setting that names the address, for error messages.
            address: The address, which need not hold anything.
            timeouts: The time limits for retrying; None takes `RETRY_TIMEOUTS`.

        Raises:
            StoreError: the environment names no usable endpoint or credentials.
        """
        self._bucket = Bucket(address.bucket, f"{argument} '{address}'", timeouts or RETRY_TIMEOUTS)
        self._address, self._prefix = address, f"{address.path.strip('/')}/".lstrip("/")

    def __str__(self) -> str:
        return str(self._address)

    def names(self) -> list[str]:
        """Returns the names of the folders that are complete."""
        keys = (item.key.removeprefix(self._prefix) for item in self._bucket.listing(self._prefix))
        found = (key.removesuffix(f"/{CHECKSUMS_NAME}") for key in keys if key.endswith(f"/{CHECKSUMS_NAME}"))
        return [name for name in found if is_inside(name) and "/" not in name]

    def send(self, folder: Path, seconds: float = float("inf")) -> None:
        """Uploads a folder with checksums under its own name.

        Raises:
            StoreError: the upload failed, or took longer than `seconds`.
            ValueError: the folder's checksums are damaged.
            OSError: a file cannot be read.
        """
        end = time.monotonic() + seconds
        for path in (*read_checksums((folder / CHECKSUMS_NAME).read_bytes()), CHECKSUMS_NAME):
            file = folder / path
            with file.open("rb") as content:
                timed = _InTime(content, end, self._bucket.error(f"it took more than {seconds:g} s to send"))
                self._bucket.upload(self._key(folder.name, path), timed, file.stat().st_size)

    def download(self, name: str, folder: Path) -> None:
        """Downloads the folder of that name to `folder`, and verifies it; `folder` is written as a whole or not at all.

        Raises:
            StoreError: a file is missing or damaged in the store, or the store cannot be reached.
            StorageError: the disk does not have enough space.
        """
        key = self._key(name, CHECKSUMS_NAME)
        content = self._bucket.read(key)
        try:
            files = read_checksums(content or b"")
        except ValueError as error:
            raise self._bucket.error(f"the object {key} is corrupted: {error}. Remove it.") from error
        parts = [
            Part(path, self._key(name, path), listed.size, listed.sha256) for path, listed in files.items()
        ]
        staging = folder.with_name(f"{folder.name}.fetching")
        staging.mkdir(parents=True, exist_ok=True)
        whole = download(self._bucket, parts, staging)
        (whole / CHECKSUMS_NAME).write_bytes(content or b"")
        with written_whole(folder, (CHECKSUMS_NAME,)) as partial:
            whole.rename(partial)
        staging.rmdir()

    def keep(self, names: Collection[str]) -> None:
        """Removes all folders except those of these names, also incomplete ones."""
        keys = [item.key for item in self._bucket.listing(self._prefix)]
        gone = [key for key in keys if key.removeprefix(self._prefix).partition("/")[0] not in names]
        for key in sorted(gone, key=lambda key: not key.endswith(f"/{CHECKSUMS_NAME}")):
            self._bucket.remove(key)

    def _key(self, name: str, path: str) -> str:
        return f"{self._prefix}{name}/{path}"


class _InTime:
    """Reads a file until a time limit, after which `read` raises an error."""

    def __init__(self, file: BinaryIO, end: float, late: StoreError) -> None:
        self._file, self._end, self._late = file, end, late

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._end:
            raise self._late
        return self._file.read(size)


def sweep(root: S3Address, spared: str, seconds: float) -> None:
    """Removes old mirrors. It stops after `SECONDS_TO_SWEEP`, and prints an error of the store instead of raising it.

    Args:
        root: The address below which the mirrors are.
        spared: The name of a mirror to keep.
        seconds: The age above which a mirror is old, counted from its newest object.
    """
    prefix = f"{root.path.strip('/')}/".lstrip("/")
    try:
        bucket = Bucket(root.bucket, f"what trainings have left in '{root}'", RETRY_TIMEOUTS)
        end = time.monotonic() + SECONDS_TO_SWEEP
        for name, keys in _old(bucket, prefix, seconds):
            if name == spared or not _NAME.fullmatch(name):
                continue
            logger.info(
                f"removing what an earlier training has left for {seconds / 86400:.0f} days: s3://{bucket.name}/{prefix}{name}"
            )
            for key in sorted(keys, key=lambda key: not key.endswith(f"/{CHECKSUMS_NAME}")):
                if time.monotonic() > end:
                    return
                bucket.remove(key)
    except StoreError as error:
        logger.info(f"what earlier trainings have left stays: {error}")


def _old(bucket: Bucket, prefix: str, seconds: float) -> Iterator[tuple[str, list[str]]]:
    """Yields each folder below `prefix` whose objects are all older than `seconds`, with their keys."""
    now, folders = datetime.now(UTC), dict[str, list[Stored]]()
    for item in bucket.listing(prefix):
        folders.setdefault(item.key.removeprefix(prefix).partition("/")[0], []).append(item)
    for name, items in folders.items():
        ages = [(now - item.modified).total_seconds() if item.modified else 0.0 for item in items]
        if min(ages) > seconds:
            yield name, [item.key for item in items]
