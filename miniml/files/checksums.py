"""Seals on folders: a list of every file and its hash, written last, so that one can tell whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from miniml.files.digests import sha256
from miniml.files.listed_files import regular_files, require_paths, require_sha256, require_size

CHECKSUMS_NAME = "sealed.json"


class FileChecksum(NamedTuple):
    """What a seal says of a file."""

    size: int
    """In bytes."""
    sha256: str
    """In hexadecimal."""


def write_checksums(folder: Path) -> None:
    """Writes down every file of `folder`, its size and hash, beside them.

    Nothing is forced onto the disk: what a machine without power had not written yet breaks the seal.

    Raises:
        ValueError: there is a link in it, or another thing that is no regular file.
    """
    files = {
        path: FileChecksum((folder / path).stat().st_size, sha256(folder / path))
        for path in regular_files(folder)
        if path != CHECKSUMS_NAME
    }
    (folder / CHECKSUMS_NAME).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")


def read_checksums(content: str | bytes) -> dict[str, FileChecksum]:
    """What a seal says, by path, "/" between its parts. Somebody else may have written it.

    Raises:
        ValueError: it is no write_checksums, or lists what cannot be a file of the folder.
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
        raise ValueError(f"it is no seal ({error})") from error


def find_damage(folder: Path) -> str:
    """What is wrong with a sealed folder, in words; empty where it is as it was."""
    try:
        present = set(regular_files(folder))
        files = read_checksums((folder / CHECKSUMS_NAME).read_bytes())
    except (OSError, ValueError) as error:
        return f"{CHECKSUMS_NAME} cannot be read: {error}"
    if added := sorted(present - files.keys() - {CHECKSUMS_NAME}):
        return f"{added[0]} was not there when it was written"
    for path, sealed in files.items():
        file = folder / path
        if path not in present:
            return f"{path} is missing"
        if file.stat().st_size != sealed.size or sha256(file) != sealed.sha256:
            return f"{path} is not what was written"
    return ""
