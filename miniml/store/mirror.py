"""Sealed folders (see `miniml.files.checksums`), copied to a bucket as they come about, and brought back elsewhere.

<prefix>/<name>/<path>          a file of the folder
<prefix>/<name>/sealed.json     its seal: sent last and removed first, so that what bears one is whole
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
from miniml.store.connection import Bucket, Patience, Stored
from miniml.store.parts import Part, bring

PATIENCE = Patience(first=60.0, later=60.0)
"""A store that restarts is back within a minute, and what is decided at the beginning is decided for hours."""
SECONDS_TO_SWEEP = 30.0
"""For what others have left; the next one goes on with it."""
_NAME = re.compile(r"[0-9a-f]{64}")
"""Of the place of a mirror: nothing else is swept, as the place may hold anything."""


class Mirror:
    """What lies below an address that names plain objects; `argument` is the setting that it came from.

    Every method raises StoreError where the store does not do its part.
    """

    def __init__(self, argument: str, address: S3Address, patience: Patience | None = None) -> None:
        self._bucket = Bucket(address.bucket, f"{argument} '{address}'", patience or PATIENCE)
        self._address, self._prefix = address, f"{address.path.strip('/')}/".lstrip("/")

    def __str__(self) -> str:
        return str(self._address)

    def names(self) -> list[str]:
        """The folders that lie there whole."""
        keys = (item.key.removeprefix(self._prefix) for item in self._bucket.listing(self._prefix))
        found = (key.removesuffix(f"/{CHECKSUMS_NAME}") for key in keys if key.endswith(f"/{CHECKSUMS_NAME}"))
        return [name for name in found if is_inside(name) and "/" not in name]

    def send(self, folder: Path, seconds: float = float("inf")) -> None:
        """Copies a sealed folder under its own name.

        Raises:
            StoreError: it took longer than `seconds`, too.
        """
        end = time.monotonic() + seconds
        for path in (*read_checksums((folder / CHECKSUMS_NAME).read_bytes()), CHECKSUMS_NAME):
            file = folder / path
            with file.open("rb") as content:
                timed = _InTime(content, end, self._bucket.error(f"it took more than {seconds:g} s to send"))
                self._bucket.upload(self._key(folder.name, path), timed, file.stat().st_size)

    def bring(self, name: str, folder: Path) -> None:
        """Brings the folder of that name to `folder`: checked, whole or not at all.

        Raises:
            StorageError: there is no room.
        """
        key = self._key(name, CHECKSUMS_NAME)
        content = self._bucket.read(key)
        try:
            files = read_checksums(content or b"")
        except ValueError as error:
            raise self._bucket.error(f"the object {key} is corrupted: {error}. Remove it.") from error
        parts = [
            Part(path, self._key(name, path), sealed.size, sealed.sha256) for path, sealed in files.items()
        ]
        staging = folder.with_name(f"{folder.name}.fetching")
        staging.mkdir(parents=True, exist_ok=True)
        whole = bring(self._bucket, parts, staging)
        (whole / CHECKSUMS_NAME).write_bytes(content or b"")
        with written_whole(folder) as partial:
            whole.rename(partial)
        staging.rmdir()

    def keep(self, names: Collection[str]) -> None:
        """Removes all but the folders of these names, half-sent ones too."""
        keys = [item.key for item in self._bucket.listing(self._prefix)]
        gone = [key for key in keys if key.removeprefix(self._prefix).partition("/")[0] not in names]
        for key in sorted(gone, key=lambda key: not key.endswith(f"/{CHECKSUMS_NAME}")):
            self._bucket.remove(key)

    def _key(self, name: str, path: str) -> str:
        return f"{self._prefix}{name}/{path}"


class _InTime:
    """A file that is read until the time is over."""

    def __init__(self, file: BinaryIO, end: float, late: StoreError) -> None:
        self._file, self._end, self._late = file, end, late

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._end:
            raise self._late
        return self._file.read(size)


def sweep(root: S3Address, spared: str, seconds: float) -> None:
    """Removes the mirrors below `root` to which nothing has been added for `seconds`, but for the one named `spared`.

    It takes half a minute at most, and where the store does not let it, that is told and does no harm.
    """
    prefix = f"{root.path.strip('/')}/".lstrip("/")
    try:
        bucket = Bucket(root.bucket, f"what trainings have left in '{root}'", PATIENCE)
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
    """The folders below `prefix` of which nothing is younger, and the keys in each."""
    now, folders = datetime.now(UTC), dict[str, list[Stored]]()
    for item in bucket.listing(prefix):
        folders.setdefault(item.key.removeprefix(prefix).partition("/")[0], []).append(item)
    for name, items in folders.items():
        ages = [(now - item.modified).total_seconds() if item.modified else 0.0 for item in items]
        if min(ages) > seconds:
            yield name, [item.key for item in items]
