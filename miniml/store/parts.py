"""Brings files from the store to a folder: each checked, each continued where it was cut off."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miniml.files.digests import sha256
from miniml.files.folders import require_room
from miniml.files.listed_files import is_regular
from miniml.progress import Progress, note
from miniml.store.connection import LOST, Attempts, Bucket

_BLOCK = 1 << 16
"""Bytes; a connection that breaks loses what it had of one block."""


@dataclass(frozen=True)
class Part:
    """A file that lies in the store."""

    path: str
    """In its folder, "/" between its parts."""
    key: str
    size: int
    """In bytes."""
    sha256: str = ""
    """"" where the store does not tell."""
    etag: str = ""
    """What the server says of this state of the object; "" where the key itself names the content."""

    @property
    def identity(self) -> str:
        """The same for the same content, as far as the store tells."""
        return self.sha256 or hashlib.sha256(f"{self.key}\n{self.size}\n{self.etag}".encode()).hexdigest()


def bring(bucket: Bucket, parts: list[Part], staging: Path) -> Path:
    """Gives a folder in `staging` that holds `parts`, whole and checked.

    What is in `staging` already, from an interrupted call, is not sent again.

    Raises:
        StoreError: the store did not give them, or not as they were.
        StorageError: there is no room.
    """
    require_room(staging, sum(part.size for part in parts) - _size(staging), f"fetching {bucket.asked}")
    try:
        _download(bucket, parts, staging)
        whole = staging / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        _lay_out(parts, staging, whole)
    except OSError:  # A full disk: give back what was taken.
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
                # What lay here may have been at fault, not the store.
                partial.unlink()
                for _ in _stream_into(bucket, part, partial):
                    pass
            _check(bucket, part, partial)
            partial.rename(whole)
        else:
            done += part.size


def _is_there(part: Part, file: Path) -> bool:
    """Whether an interrupted call has left all of the part in `file`, and nobody anything else."""
    return (
        is_regular(file)
        and file.stat().st_size == part.size
        and (not part.sha256 or sha256(file) == part.sha256)
    )


def _remove_all_but_files(whole: Path, partial: Path) -> None:
    """Makes way for a part: `whole` is not what it should be, and what is added to `partial` must not go elsewhere."""
    for path in (whole, partial):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path is whole or not is_regular(path):
            path.unlink(missing_ok=True)


def _stream_into(bucket: Bucket, part: Part, file: Path) -> Iterator[int]:
    """Appends what `file` still lacks of the part; yields the number of bytes as they come."""
    if file.exists() and file.stat().st_size > part.size:
        file.unlink()
    if file.exists() and (there := file.stat().st_size):
        yield there
    with file.open("ab") as target:
        attempts, reached = Attempts(bucket.patience.later), target.tell()
        while target.tell() < part.size:
            try:
                with bucket.stream(part.key, target.tell(), part.etag) as (start, response):
                    if start < target.tell():  # The server knows no ranges, and begins anew.
                        target.truncate(start)
                        target.seek(start)
                    # One byte more than was announced shows that there are more, and is the last to be taken.
                    while block := response.read(min(_BLOCK, part.size + 1 - target.tell())):
                        target.write(block)
                        yield len(block)
            except LookupError as error:
                raise bucket.error(
                    f"the store has lost {part.key}, which {part.path} is kept in. Publish it again."
                ) from error
            except LOST as error:
                if target.tell() > reached:
                    attempts, reached = Attempts(bucket.patience.later), target.tell()
                if not attempts.wait():
                    raise bucket.unreachable(error) from error
                note(
                    f"the connection broke in {part.path}; going on at {target.tell() / 1e6:,.1f} of "
                    f"{part.size / 1e6:,.1f} MB"
                )
            else:
                # An object that is shorter than it was listed ends without an error.
                break


def _check(bucket: Bucket, part: Part, file: Path) -> None:
    size, found = file.stat().st_size, sha256(file) if part.sha256 else ""
    if size == part.size and found == part.sha256:
        return
    file.unlink()
    came = f"{size:,} bytes" if size <= part.size else "more"
    if not part.sha256:
        raise bucket.error(
            f"{part.key} was listed with {part.size:,} bytes and came with {came}. Start again; if it stays so, ask "
            f"the store's log."
        )
    raise bucket.error(
        f"{part.path} is corrupted in the store: expected SHA-256 {part.sha256} and {part.size:,} bytes, found {found} "
        f"and {came}. Remove the object {part.key} and publish again what it came from."
    )


def _lay_out(parts: list[Part], staging: Path, folder: Path) -> None:
    """Moves every file to its path; content that stands at several paths is copied, so that each is its own."""
    folder.mkdir()
    placed: dict[str, Path] = {}
    for part in parts:
        target = folder / part.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if part.identity in placed:
            shutil.copyfile(placed[part.identity], target)
        else:
            placed[part.identity] = (staging / part.identity).rename(target)
