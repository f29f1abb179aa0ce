"""Seals on folders: a list of every file and its hash, written last, so that one can tell whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from miniml.manifest import sha256

SEAL_NAME = "sealed.json"


class SealedFile(NamedTuple):
    """What a seal says of a file."""

    size: int
    """In bytes."""
    sha256: str
    """In hexadecimal."""


def seal(folder: Path) -> None:
    """Writes down every file of `folder`, its size and hash, beside them.

    Nothing is forced onto the disk: what a machine without power had not written yet breaks the seal.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL_NAME)
    files = {
        path.relative_to(folder).as_posix(): SealedFile(path.stat().st_size, sha256(path)) for path in paths
    }
    (folder / SEAL_NAME).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")


def read_seal(content: str | bytes) -> dict[str, SealedFile]:
    """What a seal says, by path, "/" between its parts.

    Raises:
        ValueError: it is no seal.
    """
    try:
        return {
            str(path): SealedFile(int(size), str(digest))
            for path, (size, digest) in json.loads(content).items()
        }
    except (TypeError, AttributeError) as error:
        raise ValueError(f"it is no seal ({error})") from error


def broken_seal(folder: Path) -> str:
    """What is wrong with a sealed folder, in words; empty where it is as it was."""
    try:
        files = read_seal((folder / SEAL_NAME).read_bytes())
    except (OSError, ValueError) as error:
        return f"{SEAL_NAME} cannot be read: {error}"
    for path, sealed in files.items():
        file = folder / path
        if not file.is_file():
            return f"{path} is missing"
        if file.stat().st_size != sealed.size or sha256(file) != sealed.sha256:
            return f"{path} is not what was written"
    return ""
