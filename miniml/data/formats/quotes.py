"""Whether the quotation marks of a CSV file keep to the rules, so that none of them swallows rows.

A field that begins with a quotation mark ends with the next one, unless that is doubled. In a file that does not know
the rule one stray mark at the beginning of a text makes everything up to the next one a part of that text: the file
can still be read, and has fewer rows.
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
    """A quotation mark that opens a field which does not end as fields do."""

    opened: int
    """The number of its byte in the file."""
    met: int | None
    """The same of the next mark, which ends a field in the middle of a text; None where there is none."""


def first_stray(path: Path, separator: str) -> Stray | None:
    """The first quotation mark of the file (in UTF-8) that breaks the rules; None where all of them keep to them."""
    rules = _Rules(separator)
    for begin, before, block, after in _blocks(path):
        if stray := rules.first_stray(begin, before, block, after):
            return stray
    return None if rules.opened is None else Stray(rules.opened, None)


class _Rules:
    """Goes through the marks of a file, a block after the other."""

    def __init__(self, separator: str) -> None:
        self.opened: int | None = None
        """The mark that opened the field in which the block ends."""
        self._ends = np.zeros(256, bool)
        self._ends[[ord(separator), *_LINE_ENDS]] = True

    def first_stray(self, begin: int, before: int, block: Bytes, after: int) -> Stray | None:
        """The first of one block, which begins at that byte of the file, between those two bytes."""
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
        """Whether they open and close by turns, each where it may: so they do in most files, and that is soon seen."""
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
        """The same mark by mark, for texts without quotation marks around them that hold some."""
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
    """Each block with the number of its first byte, and the bytes on its left and right: line ends, where none are.

    No block ends within a run of marks.
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
    """The number of the line, from 1, that holds a byte of the file."""
    ends = 0
    with path.open("rb") as opened:
        while byte > 0 and (block := opened.read(min(byte, BYTES_AT_A_TIME))):
            ends += block.count(b"\n") or block.count(b"\r")
            byte -= len(block)
    return ends + 1


def without_escapes(path: Path, copy: Path) -> bool:
    r"""Writes the file with "" in place of \", and \ of \\; says whether there was anything to replace."""
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
    """Whether the marks can be read as they stand: every line is a row of itself, and no field is quoted.

    Tabs are in no text, and tab-separated files often know no quoting at all: there a field may be in marks.
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
    """Fields that read like several rows, as one does whose quotation mark ends in another row by the rules."""

    def __init__(self, separator: str, columns: int) -> None:
        # In prose a blank follows a comma.
        self._cut = re.compile(re.escape(separator) + r"(?=\S)")
        self._columns = columns
        self.count = 0
        self.first = ""

    def look(self, values: pa.StringArray, place: int) -> None:
        """Looks through fields of the column number `place`."""
        content = values.buffers()[2]
        if content is None or b"\n" not in content.to_pybytes():  # Ten times as fast as to ask for each.
            return
        for value in values.filter(pc.match_substring(values, "\n")).to_pylist():
            cuts = [len(self._cut.findall(line.strip())) for line in value.splitlines()]
            # What stands on either side of the field itself is none of it.
            rest = self._columns - 1 - place
            if cuts == [rest, *[self._columns - 1] * (len(cuts) - 2), place] and max(cuts) > 0:
                self.count += 1
                self.first = self.first or value
