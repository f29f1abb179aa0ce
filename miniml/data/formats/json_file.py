"""Reads JSON as tables; values keep their types ("2024-01-01" is a string), and columns of mixed types are strings."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from miniml.data.formats import unicode
from miniml.data.formats.json_rows import rows_of
from miniml.data.formats.source_file import SourceFile
from miniml.data.formats.table import Table, as_string, require_few_columns
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.files.portions import BYTES_AT_A_TIME, ROWS_AT_A_TIME

_KINDS = {
    str: "strings",
    bool: "truth values",
    int: "numbers",
    float: "numbers",
    list: "lists",
    dict: "objects",
}


@dataclass
class _Portion:
    """Some rows of a file, column by column."""

    name: str
    """The file's name."""
    begin: int
    """The number of the first row in the file."""
    rows: int
    arrays: dict[str, pa.Array] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    mixed: dict[str, str] = field(default_factory=dict)


def json_tables(file: SourceFile, scratch: Path) -> list[Table]:
    """Returns the rows of a JSON file, in several tables, between which a column's type may differ.

    Args:
        file: The file.
        scratch: The folder to which the rows are written as Arrow, and from which the tables read them.

    Raises:
        InputError: The file is no JSON, or holds no rows.
    """
    path, folder = unicode.in_utf8(file, scratch), Path(tempfile.mkdtemp(dir=scratch))
    written: list[tuple[_Portion, Path]] = []
    types: dict[str, pa.DataType] = {}
    try:
        for portion in _portions(rows_of(path, file.name), file.name):
            for column, array in portion.arrays.items():
                if pa.types.is_null(types.setdefault(column, array.type)):
                    types[column] = array.type
            require_few_columns(len(types), file.name)
            written.append((portion, _write(portion, folder / f"{portion.begin}.arrow")))
            portion.arrays = {}
    except UnicodeDecodeError as error:
        raise unicode.not_utf8(file, path) or error from error
    return [_table(portion, stored, types) for portion, stored in written]


def _portions(rows: Iterator[tuple[Any, int]], name: str) -> Iterator[_Portion]:
    some: list[Any] = []
    begin = size = 0
    for row, characters in rows:
        if not isinstance(row, dict):
            raise InputError(
                f"row {begin + len(some)} of {name} is {shown(row)}, and no object with the names of columns. Write "
                f'{{"text": …, "label": …}}.'
            )
        some.append(row)
        size += characters
        if len(some) == ROWS_AT_A_TIME or size >= 4 * BYTES_AT_A_TIME:
            yield _by_column(some, name, begin)
            begin, some, size = begin + len(some), [], 0
    if some:
        yield _by_column(some, name, begin)


def _by_column(rows: list[dict[str, Any]], name: str, begin: int) -> _Portion:
    portion = _Portion(name, begin, len(rows))
    columns = dict.fromkeys(chain.from_iterable(rows))
    require_few_columns(len(columns), name)
    for column in columns:
        _add(portion, column, [row.get(column) for row in rows])
    return portion


def _add(portion: _Portion, column: str, values: list[Any]) -> None:
    if dict not in set(map(type, values)):
        try:
            array = pa.array(values)
        except UnicodeEncodeError:
            array = pa.array([_without_surrogates(value) for value in values])
        except (pa.ArrowException, OverflowError):  # They are of several types.
            return _add_mixed(portion, column, values)
        if not (pa.types.is_list(array.type) and pa.types.is_nested(array.type.value_type)):
            portion.arrays[column] = array
            return None
    return _add_mixed(portion, column, values)


def _add_mixed(portion: _Portion, column: str, values: list[Any]) -> None:
    """Adds a column of mixed types, as strings, unless it holds objects, or lists beside other values."""
    kinds = Counter(_KINDS[type(value)] for value in values if value is not None)
    usual, rarest = kinds.most_common()[0][0], kinds.most_common()[-1][0]
    number = next(
        at for at, value in enumerate(values) if value is not None and _KINDS[type(value)] == rarest
    )
    reason = f"row {portion.begin + number} of {portion.name} holds {shown(values[number])} in column {shown(column)}"
    reason += f", where others hold {usual}" if len(kinds) > 1 else ""
    entries = [entry for value in values if isinstance(value, list) for entry in value]
    nested = "objects" in kinds or any(isinstance(entry, list | dict) for entry in entries)
    if nested or (entries and len(kinds) > 1):
        portion.unusable[column] = (
            f"{reason}. A text is a string, and a label a string, a number, or a list of them."
        )
    else:
        portion.arrays[column] = pa.array([_without_surrogates(as_string(value)) for value in values])
        portion.mixed[column] = reason


def _without_surrogates(value: Any) -> Any:
    r"""Replaces surrogates without their pair, such as "\ud83d" alone, by U+FFFD."""
    if isinstance(value, list):
        return [_without_surrogates(entry) for entry in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _write(portion: _Portion, path: Path) -> Path:
    batch = pa.record_batch(list(portion.arrays.values()), names=list(portion.arrays))
    with pa.OSFile(str(path), "wb") as opened, pa.ipc.new_stream(opened, batch.schema) as writer:
        writer.write_batch(batch)
    return path


def _table(portion: _Portion, stored: Path, types: dict[str, pa.DataType]) -> Table:
    """Returns the rows of one portion; columns that it lacks are null, of the type that other portions give them."""

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(stored)) as opened, pa.ipc.open_stream(opened) as reader:
            batch = reader.read_next_batch()
        arrays = [
            batch.column(name) if name in typed else pa.nulls(portion.rows, types[name]) for name in columns
        ]
        yield pa.record_batch(arrays, names=list(columns))

    with pa.OSFile(str(stored)) as opened, pa.ipc.open_stream(opened) as reader:
        schema = reader.schema
    typed = {each.name for each in schema if not pa.types.is_null(each.type)}
    every = pa.schema(
        [(name, schema.field(name).type if name in typed else kind) for name, kind in types.items()]
    )
    return Table(
        features=datasets.Features.from_arrow_schema(every),
        batches=batches,
        rows=portion.rows,
        name=portion.name,
        unusable=portion.unusable,
        mixed=portion.mixed,
    )
