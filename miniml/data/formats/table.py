"""Rows that are read as they are asked for, of one file or of several as if they were one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
import pyarrow as pa

from miniml.errors import InputError
from miniml.escaping import listed

# More columns than this make no table of texts: a matrix, or keys that are values.
MAX_COLUMNS = 4096


@dataclass(frozen=True)
class Table:
    """The rows of one split, or of one of its files."""

    features: datasets.Features
    """The columns and their types, in the source's order."""
    batches: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    """Reads these columns, from the first row to the last, anew at every call."""
    rows: int | None = None
    """How many there are, where that is known before they are read."""
    name: str = ""
    """The file that they are of, for people."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Columns that cannot be read, with the reason and the remedy: nobody minds until one of them is asked for."""
    mixed: Mapping[str, str] = field(default_factory=dict)
    """Columns that are read as strings although they do not hold strings alone, with what they hold and where."""
    advice: str = ""
    """What to look at where none of the columns is there that were asked for."""

    @property
    def columns(self) -> list[str]:
        return list(self.features)


def require_few_columns(count: int, name: str) -> None:
    """Refuses the file called `name` where it has more columns than tables of texts have.

    Raises:
        InputError: it has.
    """
    if count > MAX_COLUMNS:
        raise InputError(
            f"{name} has {count:,} columns, of {MAX_COLUMNS:,} that a table may have. Keep those of texts and labels; "
            f"if it has fewer, look at its separator."
        )


def trimmed(table: Table) -> Table:
    """The table without blanks around its columns' names, where that leaves them apart."""
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
    """The same tables; a column of strings in one of them, and of numbers in another, is of strings in all.

    "0" in one file and 0 in another are the same label.
    """
    columns = dict.fromkeys(name for part in parts for name in part.columns)
    for column in columns:
        parts = _with_the_same_names(parts, column)
        holders = [part for part in parts if column in part.features]
        words = next((part for part in holders if _kind(part.features[column]) == "strings"), None)
        other = next((part for part in holders if _kind(part.features[column]) not in ("strings", "")), None)
        if words and other:
            told = f"{other.name} holds {_kind(other.features[column])} in column {column!r}, and {words.name} strings"
            parts = [_in_words(part, column, told) if column in part.features else part for part in parts]
    return parts


def _with_the_same_names(parts: list[Table], column: str) -> list[Table]:
    """The tables; a column whose numbers have names in some of them, or other names, is one of numbers in all."""
    held = [part.features[column] for part in parts if column in part.features]
    named = [feature for feature in held if isinstance(feature, datasets.ClassLabel)]
    if not named or all(feature == named[0] for feature in held):
        return parts
    return [
        replace(part, features=datasets.Features({**part.features, column: datasets.Value("int64")}))
        if isinstance(part.features.get(column), datasets.ClassLabel)
        else part
        for part in parts
    ]


def chained(parts: list[Table]) -> Table:
    """One table of several; a column that is not in all of them, or of other types, cannot be used.

    A part without rows says nothing of the columns that the others have.
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
        mixed={name: told for part in parts for name, told in part.mixed.items()},
        advice=parts[0].advice,
    )


def word(value: Any) -> Any:
    """A value as a string: 1 for 1.0, since a file of whole numbers may hold them so; of a list its entries."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return [word(entry) for entry in value]
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _in_words(part: Table, column: str, told: str) -> Table:
    """The table with a column of strings in place of its own."""

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in part.batches(columns):
            if column in columns and not pa.types.is_string(batch.column(column).type):
                words = pa.array([word(value) for value in batch.column(column).to_pylist()], pa.string())
                batch = batch.set_column(batch.schema.get_field_index(column), column, words)
            yield batch

    features = datasets.Features({**part.features, column: datasets.Value("string")})
    return replace(part, features=features, batches=batches, mixed={column: told, **part.mixed})


def _kind(feature: Any) -> str:
    """What a column of single values holds, in a person's words; "" for nothing, and for lists and the like."""
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
    """The reason why the column cannot be read as one, if there is any."""
    first, *others = [part for part in parts if _held(part.features[column])] or parts[:1]
    for other in others:
        if _shape(other.features[column]) != _shape(first.features[column]):
            return (
                f"column {column!r} is {first.features[column]} in {first.name}, and {other.features[column]} in "
                f"{other.name}. Give files of the same types."
            )
    return ""


def _held(feature: Any) -> bool:
    """Whether the column holds anything at all."""
    inner = getattr(feature, "feature", feature)
    return not (isinstance(inner, datasets.Value) and inner.dtype == "null")


def _shape(feature: Any) -> Any:
    if isinstance(feature, datasets.List | datasets.LargeList):
        return ["list", _shape(feature.feature) if _held(feature) else ""]
    return _kind(feature) or feature


def _widest(features: list[Any]) -> Any:
    """The type that stands for all: of those with a fraction, if any of them has one."""
    held = [feature for feature in features if _held(feature)] or features
    with_fractions = (each for each in held if isinstance(each, datasets.Value) and "float" in each.dtype)
    return next(with_fractions, held[0])
