"""Files of text, whatever Unicode they are written in, as UTF-8."""

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
    """The file itself, or where it is in UTF-16 or UTF-32, a copy in UTF-8 in the folder `scratch`.

    Raises:
        InputError: it begins like UTF-16 or UTF-32, and goes on otherwise.
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
    """The encoding, where it is not UTF-8."""
    with path.open("rb") as opened:
        start = opened.read(4096)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    # Without a mark: most letters of most languages' markup, digits and blanks have a byte of zero in UTF-16.
    odd, even = start[1::2].count(0), start[0::2].count(0)
    if len(start) >= 8 and max(odd, even) > len(start) // 4 > 4 * min(odd, even):
        return "utf-16-le" if odd > even else "utf-16-be"
    return ""


def not_utf8(file: SourceFile, path: Path) -> InputError | None:
    """The error that names the first line of the file which is no UTF-8; None where all of them are."""
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
