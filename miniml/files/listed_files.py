"""Lists the files of a folder, and validates such lists when they come from an untrusted writer."""

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
"""Bytes in a file's name; the limit of the file systems of Linux."""
LONGEST_PATH = 1024
"""Bytes in a path; the limit of a key in S3."""
LARGEST = 2**60
"""Bytes in a file."""


def is_inside(path: Any) -> bool:
    """Tells whether `path` is a string that names a file inside the folder that it is relative to.

    Its parts are separated by "/"; absolute paths, "..", control characters and overlong names are refused.
    """
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
    """Checks that one folder can hold files at all of `paths`.

    Raises:
        ValueError: a path leads outside the folder, or is both a file and a folder. The message names it.
    """
    listed = list(paths)
    for path in listed:
        if not is_inside(path):
            raise ValueError(f"{quoted(str(path))} is no path of a file in the folder")
    folders = {str(parent) for path in listed for parent in PurePosixPath(path).parents}
    if both := sorted(folders.intersection(listed)):
        raise ValueError(f"{quoted(both[0])} is both a file and a folder")


def require_sha256(value: Any) -> str:
    """Returns `value` if it is a hexadecimal SHA-256.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"{quoted(str(value))} is no SHA-256, which has 64 hexadecimal digits")
    return value


def require_size(value: Any) -> int:
    """Returns `value` if it is a number of bytes.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError(f"{quoted(str(value))} is no size, which is a number of bytes")
    return value


def is_regular(path: Path) -> bool:
    """Tells whether `path` is a regular file, and not a link, a pipe, a socket or a device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def regular_files(folder: Path) -> list[str]:
    """Returns the paths of all files below `folder`, relative to it and sorted.

    Raises:
        ValueError: the folder holds something that is neither a regular file nor a folder, for example a link, whose
            content may change between two reads. The message names it.
        OSError: the folder cannot be read.
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
