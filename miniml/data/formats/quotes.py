"""Checks that the quotation marks of a CSV file keep to the rules, so that none of them swallows rows.

A field that begins with a quotation mark ends with the next one that is not doubled (RFC 4180,
https://www.rfc-editor.org/rfc/rfc4180). In a file that ignores this rule, one stray mark at the beginning of a text
makes all rows up to the next mark part of that text. The file can still be read, but has fewer rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miniml.files.portions import BYTES_AT_A_TIME

_QUOTE = ord('"')
_LINE_ENDS = (ord("\n"), ord("\r"))
_ESCAPED = re.compile(rb"\\([\"\\])")

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Stray:
    """A quotation mark that breaks the rules: it opens a field that does not end as fields do."""

    opened: int
    """The position of the mark in the file, in bytes."""
    met: int | None
    """The position of the next mark, which ends the field within a text; None if there is none."""


def first_stray(path: Path, separator: str) -> Stray | None:
    """Returns the first quotation mark of a file in UTF-8 that breaks the rules, or None."""
    rules = _Rules(separator)
    for begin, before, block, after in _blocks(path):
        if stray := rules.first_stray(begin, before, block, after):
            return stray
    return None if rules.opened is None else Stray(rules.opened, None)


class _Rules:
    """Checks the marks of a file, block by block."""

    def __init__(self, separator: str) -> None:
        self.opened: int | None = None
        """The position of the mark that opened the field in which the last block ended; None outside of a field."""
        self._ends = np.zeros(256, bool)
        self._ends[[ord(separator), *_LINE_ENDS]] = True

    def first_stray(self, begin: int, before: int, block: Bytes, after: int) -> Stray | None:
        """Returns the first stray mark of a block, or None.

        Args:
            begin: The position of the block in the file, in bytes.
            before: The byte before the block.
            block: The block's bytes.
            after: The byte after the block.
        """
        marks = np.flatnonzero(block == _QUOTE)
        if not len(marks):
            return None
        left, right = block[marks - 1], block[np.minimum(marks + 1, len(block) - 1)]
        if marks[0] == 0:
            left[0] = before
        if marks[-1] == len(block) - 1:
            right[-1] = after
        return (
            None
            if self._all_in_turn(begin + marks, left, right)
            else self._in_steps(begin + marks, left, right)
        )

    def _all_in_turn(self, marks: np.ndarray[Any, Any], left: Bytes, right: Bytes) -> bool:
        """Tells whether the marks open and close fields in turn, as in most files; this is fast to check."""
        opening = np.arange(len(marks)) % 2 == (self.opened is not None)
        beginning = self._ends[left]
        if not np.where(opening, beginning | (left == _QUOTE), self._ends[right] | (right == _QUOTE)).all():
            return False
        if not opening[-1]:
            self.opened = None
        elif (begins := np.flatnonzero(opening & beginning)).size:
            self.opened = int(marks[begins[-1]])
        return True

    def _in_steps(self, marks: np.ndarray[Any, Any], left: Bytes, right: Bytes) -> Stray | None:
        """Checks mark by mark, for files where unquoted texts contain marks."""
        doubled = -1
        ends = self._ends.tolist()
        for mark, before, after in zip(marks.tolist(), left.tolist(), right.tolist(), strict=True):
            if mark == doubled:
                continue
            if self.opened is None:
                self.opened = mark if ends[before] else None
            elif after == _QUOTE:
                doubled = mark + 1
            elif ends[after]:
                self.opened = None
            else:
                return Stray(self.opened, mark)
        return None


def _blocks(path: Path) -> Iterator[tuple[int, int, Bytes, int]]:
    """Yields the position of each block, the byte before it, the block, and the byte after it.

    Outside of the file these bytes are line ends. No block ends within a run of marks.
    """
    with path.open("rb") as opened:
        begin, before = 0, _LINE_ENDS[0]
        if opened.read(3) == b"\xef\xbb\xbf":
            begin = 3
        opened.seek(begin)
        block = opened.read(BYTES_AT_A_TIME)
        while block:
            following = opened.read(BYTES_AT_A_TIME)
            while block.endswith(b'"') and following:
                run = len(following) - len(following.lstrip(b'"')) or 1
                block, following = block + following[:run], following[run:] or opened.read(BYTES_AT_A_TIME)
            yield begin, before, np.frombuffer(block, np.uint8), following[0] if following else _LINE_ENDS[0]
            begin, before, block = begin + len(block), block[-1], following


def line_of(path: Path, byte: int) -> int:
    """Returns the number of the line, from 1, that holds the byte at this position."""
    ends = 0
    with path.open("rb") as opened:
        while byte > 0 and (block := opened.read(min(byte, BYTES_AT_A_TIME))):
            ends += block.count(b"\n") or block.count(b"\r")
            byte -= len(block)
    return ends + 1


def without_escapes(path: Path, copy: Path) -> bool:
    r"""Copies the file with \" replaced by "" and \\ by \, and tells whether there was anything to replace."""
    replaced = 0
    with path.open("rb") as source, copy.open("wb") as target:
        rest = b""
        while block := source.read(BYTES_AT_A_TIME):
            block = rest + block
            # A backslash at the end belongs to what follows, unless it is the second of a pair.
            odd = (len(block) - len(block.rstrip(b"\\"))) % 2
            rest = block[len(block) - odd :]
            block, found = _ESCAPED.subn(_plain, block[: len(block) - odd])
            replaced += found
            target.write(block)
        target.write(rest)
    return replaced > 0


def _plain(found: re.Match[bytes]) -> bytes:
    return b'""' if found[1] == b'"' else b"\\"


def are_plain_letters(path: Path, separator: str, columns: int) -> bool:
    """Tells whether all marks belong to the texts: every line is a row, and no field is quoted.

    In tab-separated files a field may be in marks, since many of them use no quoting and their texts hold no tabs.

    Args:
        path: The file.
        separator: The separator of its fields.
        columns: The number of its columns.
    """
    cut = separator.encode()
    field = re.compile(rb'(?:^|%s)"(?:[^"]|"")*"(?=%s|\r?\n?$)' % (re.escape(cut), re.escape(cut)))
    with path.open("rb") as opened:
        for number, line in enumerate(opened):
            line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip() and line.count(cut) != columns - 1:
                return False
            if (cut != b"\t" or number == 0) and b'"' in line and field.search(line):
                return False
    return True


class Swallowed:
    """Counts fields that look like several rows, since a stray quotation mark may have swallowed them."""

    def __init__(self, separator: str, columns: int) -> None:
        # A comma with a blank behind it is prose.
        self._cut = re.compile(re.escape(separator) + r"(?=\S)")
        self._columns = columns
        self.count = 0
        self.first = ""

    def inspect(self, values: pa.StringArray, place: int) -> None:
        """Checks the fields of the column with the number `place`, from 0."""
        content = values.buffers()[2]
        if content is None or b"\n" not in content.to_pybytes():  # Ten times as fast as a check of each.
            return
        for value in values.filter(pc.match_substring(values, "\n")).to_pylist():
            cuts = [len(self._cut.findall(line.strip())) for line in value.splitlines()]
            # The columns before and after this field belong to its own row.
            rest = self._columns - 1 - place
            if cuts == [rest, *[self._columns - 1] * (len(cuts) - 2), place] and max(cuts) > 0:
                self.count += 1
                self.first = self.first or value
