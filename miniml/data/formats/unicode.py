"""Converts text files in UTF-16 or UTF-32 to UTF-8."""

from __future__ import annotations

import codecs
import shutil
import tempfile
from pathlib import Path

from miniml.data.formats.source_file import SourceFile
from miniml.errors import InputError
from miniml.escaping import shown

# UTF-32 first, as its mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def in_utf8(file: SourceFile, scratch: Path) -> Path:
    """Returns the file's path, or that of a copy in UTF-8 if the file is in UTF-16 or UTF-32.

    Args:
        file: The file.
        scratch: The folder for the copy.

    Raises:
        InputError: The file begins like UTF-16 or UTF-32, but cannot be decoded as such.
    """
    encoding = _encoding(file.path)
    if not encoding:
        return file.path
    copy = Path(tempfile.mkdtemp(dir=scratch)) / "utf8"
    try:
        with (
            file.path.open(encoding=encoding, newline="") as source,
            copy.open("w", encoding="utf-8", newline="") as target,
        ):
            shutil.copyfileobj(source, target)
    except UnicodeError as error:
        raise InputError(
            f"{file.name} begins like {encoding.upper()} and goes on otherwise. Save it as UTF-8."
        ) from error
    return copy


def _encoding(path: Path) -> str:
    """Returns the encoding, or "" if it should be UTF-8."""
    with path.open("rb") as opened:
        start = opened.read(4096)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    # Without a byte-order mark: in UTF-16, Latin letters, digits, blanks and markup have a zero byte each.
    odd, even = start[1::2].count(0), start[0::2].count(0)
    if len(start) >= 8 and max(odd, even) > len(start) // 4 > 4 * min(odd, even):
        return "utf-16-le" if odd > even else "utf-16-be"
    return ""


def not_utf8(file: SourceFile, path: Path) -> InputError | None:
    """Returns an error that names the first line of the file that is not UTF-8, or None if there is no such line.

    Args:
        file: The file, whose name the message gives.
        path: The file to check, which may be a converted copy.
    """
    with path.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                around = line[max(0, error.start - 20) : error.start + 20].decode("latin-1")
                return InputError(
                    f"{file.name}, line {number}, is no UTF-8: it holds the byte {line[error.start]:#04x} in "
                    f"{shown(around)}. Save the file as UTF-8; if it is Windows-1252, as Excel writes it: "
                    f"iconv -f WINDOWS-1252 -t UTF-8."
                )
    return None
