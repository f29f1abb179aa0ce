"""Converts Arrow's many types to those that a text, a label or a slice's value can have."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miniml.errors import InputError
from miniml.escaping import shown

_LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType)


_AS_STRINGS = (
    *(pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    *(
        pa.types.is_fixed_size_binary,
        pa.types.is_decimal,
        pa.types.is_date,
        pa.types.is_time,
        pa.types.is_timestamp,
    ),
)
"""Types that are read as strings."""
_UNCHANGED = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_null, pa.types.is_boolean),
    *(pa.types.is_integer, pa.types.is_floating),
)
"""Types that are read as they are."""


def plain_columns(schema: pa.Schema, name: str) -> tuple[datasets.Features, dict[str, str]]:
    """Returns the columns that can be read, and the reasons why the others cannot.

    Args:
        schema: The file's schema.
        name: The file's name, for messages.

    Returns:
        The readable columns with the types that `in_plain_types` converts them to, and messages by column name.
    """
    features, unusable = datasets.Features(), dict[str, str]()
    for field in schema:
        kind = plain_type(field.type)
        if len(schema.get_all_field_indices(field.name)) > 1:
            unusable[field.name] = f"{name} has two columns {shown(field.name)}. Rename one."
        elif kind is None:
            unusable[field.name] = (
                f"column {shown(field.name)} of {name} is of type {shown(str(field.type))}, which is neither a text "
                f"nor a label. Choose another, or make strings of it."
            )
        else:
            features |= datasets.Features.from_arrow_schema(pa.schema([(field.name, kind)]))
    return features, unusable


def plain_type(kind: pa.DataType) -> pa.DataType | None:
    """Returns the type as which a column is read, or None if its values are neither single values nor lists of them.

    Dates, times and decimals are read as strings, since as labels they are names.
    """
    if isinstance(kind, pa.DictionaryType | pa.RunEndEncodedType):
        inner = plain_type(kind.value_type)
        return kind if isinstance(kind, pa.DictionaryType) and inner == kind.value_type else inner
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type) if pa.types.is_string(kind.storage_type) else None
    if isinstance(kind, _LISTS):
        inner = plain_type(kind.value_type)
        if inner is None or isinstance(inner, _LISTS):
            return None
        kept = inner == kind.value_type and not isinstance(kind, pa.ListViewType | pa.LargeListViewType)
        return kind if kept else pa.list_(inner)
    if any(matches(kind) for matches in _AS_STRINGS):
        return pa.string()
    return kind if any(matches(kind) for matches in _UNCHANGED) else None


def in_plain_types(batch: pa.RecordBatch, name: str, begin: int) -> pa.RecordBatch:
    """Returns the batch with each column in its `plain_type`.

    Args:
        batch: The rows.
        name: The file's name, for messages.
        begin: The number of the first row in the file, from 0.

    Raises:
        InputError: A column holds bytes that are not UTF-8.
    """
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            columns.append(_plain(column))
        except pa.ArrowInvalid as error:
            row = begin + int(np.argmax([_is_undecodable(value) for value in column.to_pylist()]))
            raise InputError(
                f"column {shown(field.name)} of {name} holds bytes that are no UTF-8, first in row {row}. Write "
                f"strings into it."
            ) from error
    return pa.record_batch(columns, names=batch.schema.names)


def _plain(column: pa.Array) -> pa.Array:
    kind = plain_type(column.type)
    if kind is None or kind == column.type:
        return column
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if isinstance(column, pa.RunEndEncodedArray):
        column = pc.run_end_decode(column)
    return column.cast(kind)


def _is_undecodable(value: object) -> bool:
    try:
        return isinstance(value, bytes) and not isinstance(value.decode(), str)
    except UnicodeDecodeError:
        return True
