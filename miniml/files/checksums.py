"""Lists every file of a folder with its SHA-256, so that a later reader can tell whether the folder is complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from miniml.files.digests import sha256
from miniml.files.listed_files import regular_files, require_paths, require_sha256, require_size

CHECKSUMS_NAME = "sealed.json"


class FileChecksum(NamedTuple):
    """The size and the hash of one file, as a checksum list states them."""

    size: int
    """The size in bytes."""
    sha256: str
    """The SHA-256 (hexadecimal)."""


def write_checksums(folder: Path) -> None:
    """Writes the checksum list of `folder` into the folder itself.

    It does not call fsync. If the machine loses power before the files are on the disk, `find_damage` reports them.

    Raises:
        ValueError: the folder holds a link, or something else that is not a regular file.
        OSError: a file cannot be read, or the list cannot be written.
    """
    files = {
        path: FileChecksum((folder / path).stat().st_size, sha256(folder / path))
        for path in regular_files(folder)
        if path != CHECKSUMS_NAME
    }
    (folder / CHECKSUMS_NAME).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")


def read_checksums(content: str | bytes) -> dict[str, FileChecksum]:
    """Parses and validates a checksum list, which may come from an untrusted writer.

    Args:
        content: The JSON text of the list.

    Returns:
        The checksums by path; a path is relative to the folder and has "/" between its parts.

    Raises:
        ValueError: `content` is not a checksum list, or lists a path that cannot be a file of the folder.
    """
    try:
        files = {
            path: FileChecksum(require_size(size), require_sha256(digest))
            for path, (size, digest) in json.loads(content).items()
        }
        require_paths([*files, CHECKSUMS_NAME])
        if CHECKSUMS_NAME in files:
            raise ValueError("it lists itself")
        return files
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is not a list of checksums ({error})") from error


def find_damage(folder: Path) -> str:
    """Compares a folder with its checksum list and returns the first difference in words, or "" if there is none."""
    try:
        present = set(regular_files(folder))
        files = read_checksums((folder / CHECKSUMS_NAME).read_bytes())
    except (OSError, ValueError) as error:
        return f"{CHECKSUMS_NAME} cannot be read: {error}"
    if added := sorted(present - files.keys() - {CHECKSUMS_NAME}):
        return f"{added[0]} was not there when it was written"
    for path, expected in files.items():
        file = folder / path
        if path not in present:
            return f"{path} is missing"
        if file.stat().st_size != expected.size or sha256(file) != expected.sha256:
            return f"{path} is not what was written"
    return ""
