"""Reads rows lazily, from one file or from several as if they were one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import pyarrow as pa

from miniml.errors import InputError
from miniml.escaping import listed

# A file with more columns than this is no table of texts, but a matrix, or has values as keys.
MAX_COLUMNS = 4096


@dataclass(frozen=True)
class Table:
    """The rows of one split, or of one of its files."""

    features: datasets.Features
    """The columns and their types, in the source's order."""
    batches: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    """Reads the columns of these names, from the first row to the last; each call begins again."""
    rows: int | None = None
    """The number of rows; None if it is unknown before they are read."""
    name: str = ""
    """The file of the rows, for messages."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Columns that cannot be read, with the reason and the remedy: an error only if one of them is needed."""
    mixed: Mapping[str, str] = field(default_factory=dict)
    """Columns that are read as strings although they hold other values too, with what they hold and where."""
    advice: str = ""
    """The remedy if the table has none of the columns that are needed."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the source's order."""
        return list(self.features)


def require_few_columns(count: int, name: str) -> None:
    """Checks that a file has no more columns than a table of texts may have.

    Args:
        count: The number of its columns.
        name: The file's name, for the message.

    Raises:
        InputError: It has more.
    """
    if count > MAX_COLUMNS:
        raise InputError(
            f"{name} has {count:,} columns, of {MAX_COLUMNS:,} that a table may have. Keep those of texts and labels; "
            f"if it has fewer, look at its separator."
        )


def trimmed(table: Table) -> Table:
    """Returns the table without blanks around its columns' names, if the names then still differ."""
    stored = {name.strip("\ufeff\xa0 \t\r\n"): name for name in table.features}
    if list(stored) == table.columns or len(stored) < len(table.features):
        return table

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in table.batches([stored[name] for name in columns]):
            yield batch.rename_columns(list(columns))

    features = datasets.Features({name: table.features[stored[name]] for name in stored})
    mixed = {name: table.mixed[stored[name]] for name in stored if stored[name] in table.mixed}
    return replace(table, features=features, batches=batches, mixed=mixed)


def alike(parts: list[Table]) -> list[Table]:
    """Returns the tables, where a column that has strings in one of them has strings in all.

    So "0" in one file and 0 in another are the same label.
    """
    columns = dict.fromkeys(name for part in parts for name in part.columns)
    for column in columns:
        parts = _with_the_same_names(parts, column)
        holders = [part for part in parts if column in part.features]
        strings = next((part for part in holders if _kind(part.features[column]) == "strings"), None)
        other = next((part for part in holders if _kind(part.features[column]) not in ("strings", "")), None)
        if strings and other:
            kind = _kind(other.features[column])
            reason = f"{other.name} holds {kind} in column {column!r}, and {strings.name} strings"
            parts = [_as_strings(part, column, reason) if column in part.features else part for part in parts]
    return parts


def _with_the_same_names(parts: list[Table], column: str) -> list[Table]:
    """Returns the tables; a ClassLabel column whose names differ between them becomes one of numbers in all."""
    features = [part.features[column] for part in parts if column in part.features]
    named = [feature for feature in features if isinstance(feature, datasets.ClassLabel)]
    if not named or all(feature == named[0] for feature in features):
        return parts
    return [
        replace(part, features=datasets.Features({**part.features, column: datasets.Value("int64")}))
        if isinstance(part.features.get(column), datasets.ClassLabel)
        else part
        for part in parts
    ]


def chained(parts: list[Table]) -> Table:
    """Returns one table of several; a column that is missing in one of them or differs in type is unusable.

    Parts without rows do not count.
    """
    parts = [part for part in parts if part.rows != 0] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    features, unusable = datasets.Features(), dict[str, str]()
    for column in dict.fromkeys(name for part in parts for name in part.columns):
        problem = _missing(column, parts) or _differing(column, parts)
        if problem:
            unusable[column] = problem
        else:
            features[column] = _widest([part.features[column] for part in parts])

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for part in parts:
            yield from part.batches(columns)

    counts = [part.rows for part in parts]
    return Table(
        features=features,
        batches=batches,
        rows=None if None in counts else sum(filter(None, counts)),
        name=parts[0].name,
        unusable={**{name: why for part in parts for name, why in part.unusable.items()}, **unusable},
        mixed={name: reason for part in parts for name, reason in part.mixed.items()},
        advice=parts[0].advice,
    )


def as_string(value: Any) -> Any:
    """Returns a value as a string, and a list's entries as strings; 1.0 is "1", as files store whole numbers so."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return [as_string(entry) for entry in value]
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_strings(part: Table, column: str, reason: str) -> Table:
    """Returns the table with the column's values as strings."""

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in part.batches(columns):
            if column in columns and not pa.types.is_string(batch.column(column).type):
                strings = pa.array(
                    [as_string(value) for value in batch.column(column).to_pylist()], pa.string()
                )
                batch = batch.set_column(batch.schema.get_field_index(column), column, strings)
            yield batch

    features = datasets.Features({**part.features, column: datasets.Value("string")})
    return replace(part, features=features, batches=batches, mixed={column: reason, **part.mixed})


def _kind(feature: Any) -> str:
    """Returns what a column of single values holds, for messages; "" for an empty column and for lists."""
    if not isinstance(feature, datasets.Value) or feature.dtype == "null":
        return ""
    if feature.dtype in ("string", "large_string"):
        return "strings"
    return "truth values" if feature.dtype == "bool" else "numbers"


def _missing(column: str, parts: list[Table]) -> str:
    without = next((part for part in parts if column not in part.features), None)
    if without is None or column in without.unusable:
        return "" if without is None else without.unusable[column]
    having = next(part for part in parts if column in part.features)
    return (
        f"{having.name} has the column {column!r}; {without.name} has {listed(without.columns)}. "
        f"Give files of the same columns."
    )


def _differing(column: str, parts: list[Table]) -> str:
    """Returns why the column's types cannot be combined, or ""."""
    first, *others = [part for part in parts if _has_values(part.features[column])] or parts[:1]
    for other in others:
        if _shape(other.features[column]) != _shape(first.features[column]):
            return (
                f"column {column!r} is {first.features[column]} in {first.name}, and {other.features[column]} in "
                f"{other.name}. Give files of the same types."
            )
    return ""


def _has_values(feature: Any) -> bool:
    """Tells whether the column holds any value."""
    inner = getattr(feature, "feature", feature)
    return not (isinstance(inner, datasets.Value) and inner.dtype == "null")


def _shape(feature: Any) -> Any:
    if isinstance(feature, datasets.List | datasets.LargeList):
        return ["list", _shape(feature.feature) if _has_values(feature) else ""]
    return _kind(feature) or feature


def _widest(features: list[Any]) -> Any:
    """Returns a type for the values of all columns: one of floats, if there is any."""
    typed = [feature for feature in features if _has_values(feature)] or features
    of_floats = (each for each in typed if isinstance(each, datasets.Value) and "float" in each.dtype)
    return next(of_floats, typed[0])
