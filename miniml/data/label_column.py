"""Describes the source's column of labels, from which a task recognises whether it is its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa

from miniml.data.columns import RowFilter, dictionary
from miniml.data.encoding import is_missing
from miniml.data.prepared import SPLITS
from miniml.data.tables import Table
from miniml.settings.data import DataSettings


@dataclass(frozen=True)
class LabelColumn:
    """The column that `settings.label_column` names, of all splits."""

    tables: dict[str, Table]
    settings: DataSettings

    @property
    def name(self) -> str:
        """The column's name."""
        return self.settings.label_column

    @property
    def feature(self) -> Any:
        """Its type, as `datasets` has it."""
        return self.tables["train"].features[self.name]

    @property
    def separator(self) -> str:
        """The separator between the labels of one text; "" if the settings name none."""
        return self.settings.label_separator

    def distinct_labels(self) -> Iterator[Any]:
        """Yields the distinct labels of each batch, without missing ones."""
        row_filter = RowFilter(self.settings)
        columns = [self.name]
        if self.settings.row_filter:
            columns = list(dict.fromkeys([*columns, row_filter.column]))
        for split in SPLITS:
            for batch in self.tables[split].batches(columns) if split in self.tables else ():
                if self.settings.row_filter:
                    batch = batch.filter(pa.array(row_filter.mask(batch, self.tables[split].features)))
                values = dictionary(batch.column(self.name)).dictionary.to_pylist()
                yield from (value for value in values if not is_missing(value))


def element_of(feature: Any) -> Any:
    """Returns the type of the entries of a column of lists, or None for any other column."""
    return feature.feature if isinstance(feature, datasets.List | datasets.LargeList) else None
