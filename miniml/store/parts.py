"""Downloads files from the store, verifies each of them, and resumes interrupted downloads."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miniml.files.digests import sha256
from miniml.files.folders import require_room
from miniml.files.listed_files import is_regular
from miniml.progress import Progress, logger
from miniml.store.connection import CONNECTION_ERRORS, Backoff, Bucket

_BLOCK = 1 << 16
"""Bytes; if the connection breaks, at most one block is lost."""


@dataclass(frozen=True)
class Part:
    """A file in the store."""

    path: str
    """The path in its folder, with "/" between its parts."""
    key: str
    size: int
    """The size in bytes."""
    sha256: str = ""
    """The SHA-256 (hexadecimal); "" if it is unknown."""
    etag: str = ""
    """The object's ETag; "" if the key itself names the content."""

    @property
    def identity(self) -> str:
        """A hexadecimal SHA-256 that is the same for the same content, as far as the store tells."""
        return self.sha256 or hashlib.sha256(f"{self.key}\n{self.size}\n{self.etag}".encode()).hexdigest()


def download(bucket: Bucket, parts: list[Part], staging: Path) -> Path:
    """Downloads and verifies files.

    Args:
        bucket: The bucket that holds the files.
        parts: The files.
        staging: A folder for the downloads. What an interrupted call has left in it is not downloaded again.

    Returns:
        A folder in `staging` that holds all the files, each at its path.

    Raises:
        StoreError: a file is missing or damaged in the store, or the store cannot be reached.
        StorageError: the disk does not have enough space.
        OSError: writing to the disk has failed.
    """
    require_room(staging, sum(part.size for part in parts) - _size(staging), f"fetching {bucket.asked}")
    try:
        _download(bucket, parts, staging)
        whole = staging / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        _lay_out(parts, staging, whole)
    except OSError:  # The disk may be full: free what the downloads have taken.
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return whole


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _download(bucket: Bucket, parts: list[Part], staging: Path) -> None:
    distinct = {part.identity: part for part in parts}
    megabytes = sum(part.size for part in distinct.values()) / 1e6
    progress, done = Progress("fetching", max(1, round(megabytes)), "MB"), 0
    for identity, part in distinct.items():
        whole, partial = staging / identity, staging / f"{identity}.partial"
        if not _is_there(part, whole):
            _remove_all_but_files(whole, partial)
            resumed = partial.exists()
            for chunk in _stream_into(bucket, part, partial):
                done += chunk
                progress.report(round(done / 1e6), part.path)
            if resumed and part.sha256 and sha256(partial) != part.sha256:
                # The earlier part may have been damaged on this disk: download all of it.
                partial.unlink()
                for _ in _stream_into(bucket, part, partial):
                    pass
            _check(bucket, part, partial)
            partial.rename(whole)
        else:
            done += part.size


def _is_there(part: Part, file: Path) -> bool:
    """Tells whether `file` already holds the whole part, from an interrupted call."""
    return (
        is_regular(file)
        and file.stat().st_size == part.size
        and (not part.sha256 or sha256(file) == part.sha256)
    )


def _remove_all_but_files(whole: Path, partial: Path) -> None:
    """Removes a wrong `whole`, and a `partial` that is no regular file: appending to a link would change its target."""
    for path in (whole, partial):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path is whole or not is_regular(path):
            path.unlink(missing_ok=True)


def _stream_into(bucket: Bucket, part: Part, file: Path) -> Iterator[int]:
    """Appends what `file` lacks of the part. Yields the bytes that it held already, and those of each block."""
    if file.exists() and file.stat().st_size > part.size:
        file.unlink()
    if file.exists() and (present := file.stat().st_size):
        yield present
    with file.open("ab") as target:
        backoff, reached = Backoff(bucket.timeouts.later), target.tell()
        while target.tell() < part.size:
            try:
                with bucket.stream(part.key, target.tell(), part.etag) as (start, response):
                    if start < target.tell():  # The server ignores ranges, and begins at 0.
                        target.truncate(start)
                        target.seek(start)
                    # Reading one byte more than announced reveals an object that is too large.
                    while block := response.read(min(_BLOCK, part.size + 1 - target.tell())):
                        target.write(block)
                        yield len(block)
            except LookupError as error:
                raise bucket.error(
                    f"the store has lost {part.key}, which holds {part.path}. Publish it again."
                ) from error
            except CONNECTION_ERRORS as error:
                if target.tell() > reached:
                    backoff, reached = Backoff(bucket.timeouts.later), target.tell()
                if not backoff.wait():
                    raise bucket.unreachable(error) from error
                logger.info(
                    f"the connection broke in {part.path}; going on at {target.tell() / 1e6:,.1f} of "
                    f"{part.size / 1e6:,.1f} MB"
                )
            else:
                # A response may end early without an error if the object is shorter than listed.
                break


def _check(bucket: Bucket, part: Part, file: Path) -> None:
    size, found = file.stat().st_size, sha256(file) if part.sha256 else ""
    if size == part.size and found == part.sha256:
        return
    file.unlink()
    came = f"{size:,} bytes" if size <= part.size else "more"
    if not part.sha256:
        raise bucket.error(
            f"{part.key} was listed with {part.size:,} bytes, but {came} arrived. Start again; if this happens again, "
            f"look into the store's log."
        )
    raise bucket.error(
        f"{part.path} is corrupted in the store: expected SHA-256 {part.sha256} and {part.size:,} bytes, found {found} "
        f"and {came}. Remove the object {part.key} and publish the source again."
    )


def _lay_out(parts: list[Part], staging: Path, folder: Path) -> None:
    """Moves every file to its path; content that belongs to several paths is copied."""
    folder.mkdir()
    placed: dict[str, Path] = {}
    for part in parts:
        target = folder / part.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if part.identity in placed:
            shutil.copyfile(placed[part.identity], target)
        else:
            placed[part.identity] = (staging / part.identity).rename(target)
