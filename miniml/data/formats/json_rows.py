"""Reads the rows of JSON in any usual form: JSON Lines, an array, columns, or a document with rows under a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from miniml.errors import InputError
from miniml.escaping import listed, shown
from miniml.files.portions import BYTES_AT_A_TIME

# In characters. A document must be in memory as a whole, where it takes some ten times its size.
LARGEST_DOCUMENT = 256 << 20
LARGEST_ROW = 64 << 20
_BETWEEN = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
_REMEDY = "Write JSON Lines, an object with a text and a label in each line."


def rows_of(path: Path, name: str) -> Iterator[tuple[Any, int]]:
    """Yields each row of a file, which the caller checks to be an object, with its number of characters.

    Args:
        path: The file, in UTF-8.
        name: The file's name, for messages.

    Raises:
        InputError: The file is no JSON, or holds no rows; the message says where.
        UnicodeDecodeError: The file is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as opened:
            first = next((line.lstrip() for line in _lines(opened, name) if line.strip()), "")
            alone = not any(line.strip() for line in _lines(opened, name))
            opened.seek(0)
            if not first:
                return
            if first.startswith("["):
                yield from _of_array(opened, name)
            elif alone or not (_is_whole(first) or name.lower().endswith(".jsonl")):
                for row in _of_document(_document(opened, name), name):
                    yield row, 0
            else:
                yield from _of_lines(opened, name)
    except RecursionError as error:
        raise InputError(f"{name} nests its JSON too deeply for a table of texts. {_REMEDY}") from error


def _lines(opened: TextIO, name: str) -> Iterator[str]:
    while line := opened.readline(LARGEST_DOCUMENT):
        if len(line) == LARGEST_DOCUMENT:
            raise _too_large(name, "a line", LARGEST_DOCUMENT)
        yield line


def _too_large(name: str, what: str, most: int) -> InputError:
    return InputError(f"{name} holds {what} of more than {most >> 20} MB, which is not read. {_REMEDY}")


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _of_lines(opened: TextIO, name: str) -> Iterator[tuple[Any, int]]:
    for number, line in enumerate(_lines(opened, name), 1):
        if not line.isspace():
            try:
                yield json.loads(line), len(line)
            except ValueError as error:
                raise _no_json(name, f"line {number}", error, line) from error


def _no_json(name: str, place: str, error: ValueError, text: str) -> InputError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)[:100]
    return InputError(f"{name}, {place}, is no JSON ({reason}): {shown(text[:100])}. {_REMEDY}")


def _of_array(opened: TextIO, name: str) -> Iterator[tuple[Any, int]]:
    """Yields the entries of an array, without having all of it in memory."""
    text = opened.read(BYTES_AT_A_TIME)
    at, number = text.index("[") + 1, 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # It matches nothing, too.
        if text.startswith("]", at):
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError as error:
            # The entry may go on after the end of the text read so far.
            more = opened.read(max(BYTES_AT_A_TIME, len(text) - at))
            if not more:
                raise _no_json(name, f"row {number}", error, text[at : at + 100]) from error
            if len(text) - at > LARGEST_ROW:
                raise _too_large(name, f"row {number}", LARGEST_ROW) from error
            text, at = text[at:] + more, 0
        else:
            yield value, end - at
            number, at = number + 1, end
    if (text[at + 1 :] + opened.read(1)).strip():
        raise InputError(
            f"{name} goes on behind the array that it begins with. Give each array a file of its own."
        )


def _document(opened: TextIO, name: str) -> Any:
    text = opened.read(LARGEST_DOCUMENT)
    if opened.read(1):
        raise _too_large(name, "one document", LARGEST_DOCUMENT)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = text[text.rfind("\n", 0, error.pos) + 1 :]
        raise _no_json(name, f"line {error.lineno}", error, line[:100]) from error
    except ValueError as error:
        raise _no_json(name, "as one document", error, text[:100]) from error


def _of_document(document: Any, name: str) -> list[Any]:
    """Returns the rows of a document, which may be under a key or in columns."""
    if not isinstance(document, dict):
        return [document]
    under = {key: value for key, value in document.items() if _is_table(value)}
    if len(under) > 1:
        raise InputError(
            f"{name} holds rows under the keys {listed(map(repr, under))}. Give each of them a file of its own; "
            f"if they are splits, train.jsonl and test.jsonl."
        )
    if under:
        return next(iter(under.values()))
    names, entries = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(entries, list):  # pandas, orient="split"
        for number, row in enumerate(entries):
            if not isinstance(row, list) or len(row) != len(names):
                raise InputError(
                    f"{name}: data[{number}] is {shown(row)}, where a list of {len(names)} values belongs, one for "
                    f"each of columns. Correct it, or leave it out."
                )
        return [dict(zip(map(str, names), row, strict=True)) for row in entries]
    return _of_columns(document, name)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _of_columns(document: dict[str, Any], name: str) -> list[Any]:
    """Returns the rows of columns, each a list, or an object with a key for each row, as pandas writes by default."""
    objects = [value for value in document.values() if isinstance(value, dict)]
    if objects and len(objects) == len(document):
        if len(document) > len(objects[0]):  # Each key has a row instead of a column.
            return objects
        rows = objects[0].keys()
        for key, value in document.items():
            if value.keys() != rows:
                raise InputError(
                    f"{name}: column {key!r} has other rows than column {next(iter(document))!r}. {_REMEDY}"
                )
        # By key, since the order of the keys may differ between columns.
        document = {key: [value[row] for row in rows] for key, value in document.items()}
    columns = {key: value for key, value in document.items() if isinstance(value, list)}
    if len(columns) < 2:
        if objects or not document:
            raise InputError(
                f"{name} is one object, and none of its keys ({listed(map(repr, document), 5)}) holds rows. {_REMEDY}"
            )
        return [document]
    lengths = {key: len(value) for key, value in columns.items()}
    if len(set(lengths.values())) > 1:
        each = (f"{key!r} {length:,}" for key, length in lengths.items())
        raise InputError(f"{name} holds columns of several lengths: {listed(each)}. {_REMEDY}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
