"""Folders that are either whole or absent."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from miniml.errors import StorageError


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into, which takes the name `folder` only when all has gone well.

    On an error nothing of it is left behind.

    Raises:
        StorageError: the disk is full, or may not be written to.
    """
    partial = folder.with_name(folder.name + ".partial")
    with disk_errors_explained(folder):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turns what the system says of a disk into words about `folder`, which is to be written in the block.

    Raises:
        StorageError: the disk is full, or may not be written to.
    """
    try:
        yield
    except BaseException as error:
        # An inner block has said which folder it was.
        if not isinstance(error, StorageError) and (explained := _explain(error, folder)):
            raise explained from error
        raise


def require_room(folder: Path, needed: int, purpose: str) -> None:
    """Fails early where the disk of `folder` has less than `needed` bytes left.

    Raises:
        StorageError: it says how much is needed, for what, and how much there is.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StorageError(
            f"{purpose} needs {needed / 1e6:,.0f} MB, but the disk of {existing} has {free / 1e6:,.0f} MB free. "
            f"Free some space, or write elsewhere."
        )


def _explain(error: BaseException, folder: Path) -> StorageError | None:
    """Libraries wrap the system's errors in their own, or only quote them: look along the whole chain."""
    link: BaseException | None = error
    while link is not None:
        number = getattr(link, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(link):
            return StorageError(
                f"the disk is full: {folder} could not be written, and nothing of it was left behind. "
                f"Free some space, or write elsewhere."
            )
        if number in (errno.EACCES, errno.EROFS):
            return StorageError(
                f"{folder} may not be written ({link}). Give a folder that this user can write to."
            )
        link = link.__cause__ or link.__context__
    return None
