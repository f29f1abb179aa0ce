"""Folders that are either whole or absent, and those of them that one process holds at a time."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def held(folder: Path, patience: float | None = None) -> Iterator[None]:
    """Makes `folder` and keeps it this process's own for the block; left empty, it goes away.

    Raises:
        TimeoutError: another process has held it for `patience` seconds; None waits for as long as it takes.
    """
    from filelock import FileLock  # Only here: who submits a run takes no lock.

    lock = folder.with_name(f"{folder.name}.lock")
    with FileLock(lock, timeout=-1 if patience is None else patience):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()
            # Under the lock: whoever waits for this file finds that it has gone, and makes one anew.
            lock.unlink(missing_ok=True)


def user_cache() -> Path:
    """Where that is kept which costs no more than time when it is removed.

    MINIML_CACHE, or else `miniml` in the user's cache folder, or in the temporary one where that cannot be written to.

    Raises:
        StorageError: none of them may be written to by this user, and by this user alone.
    """
    if chosen := os.environ.get("MINIML_CACHE"):
        folder = Path(chosen)
        with disk_errors_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
    home = Path(os.environ.get("HOME", "/"))
    folder = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "miniml"
    return folder if _may_be_written(folder) else _in_temporary_folder()


def caches_of_libraries() -> dict[str, str]:
    """The variables by which libraries keep their caches in ours, where a person's own may not be written to.

    What the person has set stays, and so does a cache of the hub that is there to be read.
    """
    home = Path(os.environ.get("HOME", "/"))
    own = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub = Path(os.environ.get("HF_HOME") or own / "huggingface")
    places: dict[str, str] = {}
    if not _may_be_written(hub):
        places = {
            f"HF_{name.upper()}_CACHE": name for name in ("datasets", "metrics", "modules", "xet", "assets")
        }
        if not (hub / "hub").is_dir():
            places["HF_HUB_CACHE"] = "hub"
    if not _may_be_written(own / "matplotlib"):
        places["MPLCONFIGDIR"] = "matplotlib"
    if not places:
        return {}
    # Told to all stages, for their temporary folder is another one in each run.
    kept = user_cache()
    caches = {"MINIML_CACHE": str(kept), **{name: str(kept / place) for name, place in places.items()}}
    return {name: folder for name, folder in caches.items() if not os.environ.get(name)}


def _may_be_written(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK) and folder.is_dir()


def _in_temporary_folder() -> Path:
    """A pod with a read-only root has its temporary folder, and elsewhere others may write to that, too.

    Raises:
        StorageError: what has our name there is not ours alone.
    """
    folder = Path(tempfile.gettempdir()) / f"miniml-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    others_may_write = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others_may_write:
        raise StorageError(
            f"{folder} is not a folder that this user alone may write to, so that what is kept there could be somebody "
            f"else's. Remove it, or set MINIML_CACHE to a folder of your own."
        )
    return folder


def is_full(folder: Path, error: BaseException) -> bool:
    """Whether `error`, on writing to `folder`, came from a full disk. torch says only that the writing failed."""
    explained = _explain(error, folder)
    return bool(explained and "full" in str(explained)) or shutil.disk_usage(folder).free < 1e6


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
