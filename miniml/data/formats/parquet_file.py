"""Reads Parquet, those columns whose type can be a text's, a label's or a slice's value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import datasets
import pyarrow as pa
import pyarrow.parquet

from miniml.data.formats.arrow_types import in_plain_types, plain_columns
from miniml.data.formats.source_file import SourceFile
from miniml.data.formats.table import Table, require_few_columns
from miniml.errors import InputError
from miniml.files.portions import BYTES_AT_A_TIME, ROWS_AT_A_TIME


def parquet_table(file: SourceFile) -> Table:
    """Returns the rows of a Parquet file.

    Raises:
        InputError: The file cannot be read as Parquet; reading the rows may raise it, too.
    """

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        begin = 0
        try:
            # With a buffer, since a row group may be as large as the file.
            with pa.parquet.ParquetFile(file.path, buffer_size=BYTES_AT_A_TIME, pre_buffer=False) as opened:
                for batch in opened.iter_batches(ROWS_AT_A_TIME, columns=list(columns)):
                    yield in_plain_types(batch, file.name, begin).select(list(columns))
                    begin += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from error

    try:
        with pa.parquet.ParquetFile(file.path) as opened:
            schema, rows = opened.schema_arrow, opened.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error
    require_few_columns(len(schema), file.name)
    features, unusable = plain_columns(schema, file.name)
    return Table(datasets.Features({**features, **_class_labels(schema)}), batches, rows, file.name, unusable)


def _class_labels(schema: pa.Schema) -> dict[str, datasets.ClassLabel]:
    """Returns the columns of classes, with the names that the datasets library stored in the schema."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    try:
        stored = datasets.Features.from_arrow_schema(schema)
    except Exception:  # Another version of that library, or another program, may have written anything there.
        return {}
    return {
        name: feature
        for name, feature in stored.items()
        if isinstance(feature, datasets.ClassLabel) and pa.types.is_integer(schema.field(name).type)
    }


def _unreadable(file: SourceFile, error: Exception) -> InputError:
    return InputError(
        f"{file.name} cannot be read as Parquet ({str(error)[:200]}). Is it that format, and was it copied or "
        f"downloaded whole?"
    )
