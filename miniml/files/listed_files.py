"""Lists of a folder's files: what a folder holds, and what a list that a stranger may have written must not say."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from miniml.escaping import quoted

LONGEST_NAME = 255
"""Bytes of a file's name: what Linux' file systems hold."""
LONGEST_PATH = 1024
"""Bytes of a path: what S3 takes as a key."""
LARGEST = 2**60
"""Bytes of a file."""


def is_inside(path: Any) -> bool:
    """Whether `path` is a string that names a file in the folder that it is relative to, "/" between its parts."""
    if not isinstance(path, str) or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
        return False
    pure = PurePosixPath(path)
    return (
        path == str(pure)
        and not pure.is_absolute()
        and bool(pure.parts)
        and ".." not in pure.parts
        and len(path.encode()) <= LONGEST_PATH
        and all(len(part.encode()) <= LONGEST_NAME for part in pure.parts)
    )


def require_paths(paths: Iterable[Any]) -> None:
    """Sees to it that a folder can hold files at all of `paths`, and that none is outside of it.

    Raises:
        ValueError: it cannot; the message names the path.
    """
    listed = list(paths)
    for path in listed:
        if not is_inside(path):
            raise ValueError(f"{quoted(str(path))} is no path of a file in the folder")
    folders = {str(parent) for path in listed for parent in PurePosixPath(path).parents}
    if both := sorted(folders.intersection(listed)):
        raise ValueError(f"{quoted(both[0])} is both a file and a folder")


def require_sha256(value: Any) -> str:
    """`value`, if it is a SHA-256 in hexadecimal.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"{quoted(str(value))} is no SHA-256, which has 64 hexadecimal digits")
    return value


def require_size(value: Any) -> int:
    """`value`, if it is a number of bytes.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError(f"{quoted(str(value))} is no size, which is a number of bytes")
    return value


def is_regular(path: Path) -> bool:
    """Whether there is a file at `path` itself, and not a link to one, a pipe, a socket or a device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def regular_files(folder: Path) -> list[str]:
    """The paths of all files below `folder`, relative to it, in order.

    Raises:
        ValueError: it holds something that is neither a regular file nor a folder, a link say: what is read there may
            be something else from one time to the next. The message names it.
        OSError: it cannot be read.
    """
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        here = Path(parent)
        for path in [here / name for name in files] + [here / name for name in folders]:
            inside = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise ValueError(f"{quoted(inside)} is a link")
            if not path.is_dir():
                if not is_regular(path):
                    raise ValueError(f"{quoted(inside)} is no regular file, but a pipe, a socket or a device")
                found.append(inside)
    require_paths(found)
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error
