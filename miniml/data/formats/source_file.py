"""Describes a file of a source, and refuses one whose content is not what its name says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miniml.errors import InputError


@dataclass(frozen=True)
class SourceFile:
    """A file of a source: found in it, or unpacked from one of its archives."""

    path: Path
    name: str
    """Its path within the source, for messages and for the names of splits: train.zip/reviews.csv."""

    @property
    def suffix(self) -> str:
        """The suffix in lower case, such as .csv."""
        return self.path.suffix.lower()


_PAGE = "a web page. Download the file itself: a page that shows it has another address"
_SHEET = "save the sheet as CSV"
_BEGINNINGS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, and not the data. Fetch them: git lfs pull",
    ),
    (b"<!doctype html", _PAGE),
    (b"<html", _PAGE),
    (b"par1", "Parquet. Rename it to end in .parquet"),
    (b"pk\x03\x04", f"a zip archive or an Excel file. Rename it to end in .zip, or {_SHEET}"),
    (b"\xd0\xcf\x11\xe0", f"an Excel file. Open it, and {_SHEET}"),
    (b"\x1f\x8b", "gzipped. Rename it to end in .gz, behind its own ending: reviews.csv.gz"),
    (b"bzh", "packed by bzip2. Unpack it"),
    (b"\xfd7zxz", "packed by xz. Unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd. Unpack it"),
    (b'{"', "JSON. Rename it to end in .jsonl"),
    (b"[{", "JSON. Rename it to end in .json"),
    (b"%pdf-", "a PDF. Give a table of texts and labels"),
)
"""The first bytes of a file, in lower case, and what they show it to be."""
_JSON = (b'{"', b"[{")
_OF_SUFFIX = {
    **{".parquet": (b"par1",), ".zip": (b"pk\x03\x04",), ".gz": (b"\x1f\x8b",)},
    **{".json": _JSON, ".jsonl": _JSON},
}


def require_named_format(file: SourceFile) -> None:
    """Checks that a file does not begin as a file of another format, as a failed download does.

    Raises:
        InputError: The file is not what its name says; the message says what it is, and what to do.
    """
    with file.path.open("rb") as opened:
        start = opened.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, description in _BEGINNINGS:
        if start.startswith(beginning) and beginning not in _OF_SUFFIX.get(file.suffix, ()):
            raise InputError(f"{file.name} is {description}.")
