"""Writes folders atomically, locks them, finds the cache folder, and checks and explains what the disk refuses."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from miniml.errors import InputError, StorageError
from miniml.progress import logger

PARTIAL = ".partial"
"""Added to the name of a folder while it is unfinished."""


@contextmanager
def written_whole(folder: Path, ours: Collection[str] = ()) -> Iterator[Path]:
    """Yields a temporary folder to write into, and renames it to `folder` when the block ends without an error.

    On an error the temporary folder is removed. While another process writes the same folder, it is waited for.

    Args:
        folder: The folder to write.
        ours: What tells an earlier output, which is replaced, from other folders (see `require_replaceable`).

    Raises:
        InputError: the folder may not be replaced, or cannot be made.
        StorageError: the disk is full, or the folder may not be written to.
    """
    require_replaceable(folder, ours)
    partial = folder.with_name(folder.name + PARTIAL)
    with disk_errors_explained(folder), _in_turn(partial, folder):
        # Where it had to wait, the folder may be another one.
        require_replaceable(folder, ours)
        try:
            # A process that was killed leaves files in it.
            shutil.rmtree(partial)
            partial.mkdir()
            yield partial
            _put_in_place(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def require_replaceable(folder: Path, ours: Collection[str] = ()) -> None:
    """Checks, before any work, that a folder can be written without a loss of anything that is not ours.

    Args:
        folder: It may be missing, be empty (as Kubeflow Pipelines may make it beforehand), or be an earlier output.
        ours: The names of files of which every earlier output holds one; none if nothing may be replaced.

    Raises:
        InputError: it is a file or holds something else, or one of its parents is a file.
    """
    existing = _nearest_existing(folder)
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be a folder, because {existing} is a file. Name a new folder.")
    if existing != folder or any((folder / name).is_file() for name in ours if folder.name):
        return
    if not folder.name or any(folder.iterdir()):
        without = f" without {' or '.join(ours)}" if ours else ""
        raise InputError(
            f"{folder.absolute()} holds files{without}: it is no earlier output, and would be lost. Name a new folder."
        )


def require_writable_file(name: str, file: Path, signed: Collection[Path] = ()) -> None:
    """Checks, before any work, that a file can be written without changing a folder whose files are signed.

    Args:
        name: The argument that names the file, for the error message.
        file: The file; it and its folder may be missing.
        signed: Folders to which no file may be added.

    Raises:
        InputError: it is a folder, one of its parents is a file, it would be in one of the signed folders, or this user
            may not write there.
    """
    existing = _nearest_existing(file)
    if existing == file and file.is_dir():
        trouble = "is a folder"
    elif existing != file and not existing.is_dir():
        trouble = f"cannot be written, because {existing} is a file"
    elif inside := [folder for folder in signed if file.resolve().is_relative_to(folder.resolve())]:
        trouble = f"is inside {inside[0]}, whose files are signed"
    elif reason := _why_not_writable(existing):
        trouble = f"cannot be written ({existing}: {reason})"
    else:
        return
    raise InputError(f"{name} {file} {trouble}. Name a file elsewhere.")


def _why_not_writable(existing: Path) -> str:
    """Returns why a file, or another file in a folder, cannot be written; "" where it can."""
    try:
        if existing.is_dir():
            # Not every disk that refuses files says so in the folder's mode.
            with tempfile.TemporaryFile(dir=existing):
                return ""
        with existing.open("ab"):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _nearest_existing(path: Path) -> Path:
    """Returns the path, or the nearest of its parents that exists.

    Raises:
        InputError: the path cannot be looked at.
    """
    try:
        return next(each for each in (path, *path.parents) if each.exists())
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}). Name another path.") from error


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    # What is replaced is moved away first: a process that is killed while it removes files would leave a folder that
    # nobody recognises as ours.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as replaced:
        folder.rename(Path(replaced) / folder.name)
        partial.rename(folder)


@contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Raises the disk errors of a block that writes `folder` with a message that names the folder.

    Raises:
        StorageError: the disk is full, or the folder may not be written to.
    """
    try:
        yield
    except BaseException as error:
        # A StorageError comes from an inner block, which has named its folder.
        if not isinstance(error, StorageError) and (explained := _explain(error, folder)):
            raise explained from error
        raise


def require_room(folder: Path, needed: int, purpose: str) -> None:
    """Checks, before anything is written, that the disk has enough space.

    Args:
        folder: A folder on the disk; it need not exist yet.
        needed: The space that is needed, in bytes.
        purpose: What the space is for, as the subject of the error message.

    Raises:
        StorageError: the disk has less space. The message says how much is needed and how much is free.
    """
    existing = _nearest_existing(folder)
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StorageError(
            f"{purpose} needs {needed / 1e6:,.0f} MB, but the disk of {existing} has {free / 1e6:,.0f} MB free. "
            f"Free some space, or write elsewhere."
        )


@contextmanager
def locked(folder: Path, max_wait: float | None = None) -> Iterator[None]:
    """Creates `folder` and locks it for the block; if it is empty at the end, it is removed.

    Args:
        folder: The folder; the lock is a file beside it.
        max_wait: Seconds to wait for another process to release the lock. None waits without a limit.

    Raises:
        TimeoutError: another process held the lock for longer than `max_wait`.
        OSError: the folder or the lock cannot be created.
    """
    from filelock import FileLock  # Only here: submitting a run needs no lock, and no filelock.

    lock = folder.with_name(f"{folder.name}.lock")
    # First, since FileLock takes some errors of the disk for the lock of another process.
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(lock, timeout=-1 if max_wait is None else max_wait):
        try:
            # The process that held the lock may have removed it.
            folder.mkdir(parents=True, exist_ok=True)
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()
            # Removed while locked: a process that waits for this file finds it gone, and creates another.
            lock.unlink(missing_ok=True)


@contextmanager
def held_alone(folder: Path, output: str) -> Iterator[None]:
    """Creates `folder` and locks it for the block, or refuses where another process has locked it.

    Args:
        folder: The folder; the lock is a file beside it.
        output: What both processes write, for the error message.

    Raises:
        InputError: another process holds the lock.
        StorageError: the disk is full, or the folder may not be written to.
    """
    with ExitStack() as stack:
        try:
            with disk_errors_explained(folder):
                stack.enter_context(locked(folder, max_wait=0))
        except TimeoutError as error:
            raise InputError(
                f"another process is writing {output}. Wait until it has ended, or write to another folder."
            ) from error
        yield


@contextmanager
def _in_turn(partial: Path, folder: Path) -> Iterator[None]:
    """Locks the temporary folder of an output, and says so if it has to wait for another process."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(partial, max_wait=0))
        except TimeoutError:
            logger.info(f"another process is writing {folder}: waiting until it has ended")
            stack.enter_context(locked(partial))
        yield


def remove_abandoned(folder: Path) -> None:
    """Removes a folder that a process has left when it was killed, unless another process has locked it."""
    with suppress(OSError), locked(folder, max_wait=0):
        shutil.rmtree(folder, ignore_errors=True)


def user_cache() -> Path:
    """Returns the folder for files that can be removed at any time and made again.

    It is MINIML_CACHE if that is set, otherwise `miniml` in the user's cache folder, or a folder in the temporary
    folder if the cache folder is not writable.

    Raises:
        StorageError: MINIML_CACHE is not writable, or others may write to the folder in the temporary folder.
        OSError: the folder cannot be created for another reason.
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
    """Returns the environment variables that move the libraries' caches into ours if the user's are not writable.

    Variables that the user has set are left out, and so is a cache of the hub that can be read.

    Raises:
        StorageError: our cache is not writable either (see `user_cache`).
    """
    home = Path(os.environ.get("HOME", "/"))
    user_caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub = Path(os.environ.get("HF_HOME") or user_caches / "huggingface")
    subfolders: dict[str, str] = {}
    if not _may_be_written(hub):
        subfolders = {
            f"HF_{name.upper()}_CACHE": name for name in ("datasets", "metrics", "modules", "xet", "assets")
        }
        if not (hub / "hub").is_dir():
            subfolders["HF_HUB_CACHE"] = "hub"
    if not _may_be_written(user_caches / "matplotlib"):
        subfolders["MPLCONFIGDIR"] = "matplotlib"
    if not subfolders:
        return {}
    # MINIML_CACHE is passed on to all stages, since the temporary folder differs between runs.
    cache = user_cache()
    caches = {
        "MINIML_CACHE": str(cache),
        **{name: str(cache / folder) for name, folder in subfolders.items()},
    }
    return {name: folder for name, folder in caches.items() if not os.environ.get(name)}


def _may_be_written(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK) and folder.is_dir()


def _in_temporary_folder() -> Path:
    """Returns a folder in the temporary folder that this user alone may write to.

    A pod with a read-only root file system can write nowhere else. Outside a pod, others share the temporary folder.

    Raises:
        StorageError: others own the folder, or may write to it.
    """
    folder = Path(tempfile.gettempdir()) / f"miniml-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    others_may_write = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others_may_write:
        raise StorageError(
            f"{folder} is not a folder that this user alone may write to, so others could change the files in it. "
            f"Remove it, or set MINIML_CACHE to a folder of your own."
        )
    return folder


def is_full(folder: Path, error: BaseException) -> bool:
    """Tells whether `error`, raised while `folder` was written, came from a full disk.

    torch does not say why it cannot write, so the free space of the disk is looked at as well.
    """
    explained = _explain(error, folder)
    return bool(explained and "full" in str(explained)) or shutil.disk_usage(folder).free < 1e6


def _explain(error: BaseException, folder: Path) -> StorageError | None:
    """Searches the whole chain of errors, since libraries wrap the system's errors in their own, or only quote them."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(cause):
            return StorageError(
                f"the disk is full: {folder} could not be written, and nothing of it was left behind. "
                f"Free some space, or write elsewhere."
            )
        if number in (errno.EACCES, errno.EROFS):
            return StorageError(
                f"{folder} may not be written ({cause}). Give a folder that this user can write to."
            )
        cause = cause.__cause__ or cause.__context__
    return None
