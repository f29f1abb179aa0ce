"""Reports classes and labels with too few rows for every split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miniml.data.findings import Findings, Passage
from miniml.data.label_names import alike
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.settings.data import DataSettings


def too_rare(
    kind: str, value: Any, rows_of: Mapping[Any, int], total: int, settings: DataSettings
) -> InputError:
    """Returns the error for a class or label with too few rows.

    Args:
        kind: "class" or "label", for the message.
        value: The class or label.
        rows_of: The number of rows of every class or label.
        total: The number of all rows.
        settings: The minimum of rows.
    """
    return InputError(
        f"{kind} {shown(value)} has {rows_of[value]} rows of {total:,}{alike(value, rows_of)}, too few to split: it "
        f"needs {settings.min_rows_per_class} of distinct texts (min_rows_per_class). Collect more, set "
        f"drop_rare_classes=True, or, if column {settings.label_column!r} holds no classes, set label_column."
    )


def tell_rare(value: Any, rows: int, findings: Findings) -> None:
    """Adds the rows that are left out with a class or label to the findings.

    Args:
        value: The class or label.
        rows: The number of its rows.
        findings: Where they are counted.
    """
    findings.add("rare_class", rows, dropped=True)
    findings.show("rare_class", Passage.of(f"{rows} rows", str(value), str(value)))
