"""The classes: which there are, in which order, under which names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from miniml.data.duplicates import Mask
from miniml.data.findings import Findings, Passage
from miniml.data.pool import Ints, Pool
from miniml.errors import InputError
from miniml.settings import DataSettings


@dataclass(frozen=True)
class Labels:
    """The classes of a dataset, in the order of their numbers."""

    names: list[str]
    codes: list[int]
    """The pool's number of each."""

    def numbers(self, codes: np.ndarray[Any, np.dtype[np.int32]]) -> Ints:
        """The classes' numbers for the pool's; -1 for what is no class."""
        table = np.full(max(self.codes) + 2, -1, np.int64)
        table[self.codes] = np.arange(len(self.codes))
        numbers: Ints = table[np.minimum(codes, len(table) - 1)]
        return numbers


def find_labels(pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Labels:
    """The classes: a ClassLabel's in its own order, others sorted, numbers by their value.

    Clears `kept` of classes with too few rows, where the settings say so.

    Raises:
        InputError: a class has too few rows, fewer than two are left, or `label_names` names another number.
    """
    counts = np.bincount(pool.facts.label[kept], minlength=len(pool.label_values))
    present = [code for code in range(len(pool.label_values)) if counts[code]]
    rare = [code for code in present if counts[code] < settings.min_rows_per_class]
    if len(present) < 2:
        raise _too_few([pool.label_values[code] for code in present], settings)
    for code in sorted(rare, key=lambda code: sorting_key(pool.label_values[code])):
        value = pool.label_values[code]
        if not settings.drop_rare_classes:
            raise InputError(
                f"class {value!r} has {counts[code]} rows of {counts.sum():,}, too few to split: it needs "
                f"{settings.min_rows_per_class} of distinct texts (min_rows_per_class). Collect more, set "
                f"drop_rare_classes=True, or, if column {settings.label_column!r} holds no classes, set label_column."
            )
        kept[kept & (pool.facts.label == code)] = False
        findings.add("rare_class", int(counts[code]), dropped=True)
        findings.show("rare_class", Passage.of(f"{counts[code]} rows", str(value), str(value)))
    codes = _ordered(pool, [code for code in present if code not in rare])
    values = [pool.label_values[code] for code in codes]
    if len(values) < 2:
        raise _too_few(values, settings)
    return Labels(_names(values, settings), codes)


def _too_few(values: list[Any], settings: DataSettings) -> InputError:
    left = f"one class only ({values[0]!r})" if values else "no class left"
    return InputError(
        f"column {settings.label_column!r} has {left}; a classifier needs 2 or more. Set label_column, or check "
        f"row_filter and min_rows_per_class."
    )


def _ordered(pool: Pool, codes: list[int]) -> list[int]:
    if pool.label_order is not None:
        return sorted(codes, key=lambda code: pool.label_order.index(pool.label_values[code]))  # type: ignore[union-attr]
    return sorted(codes, key=lambda code: sorting_key(pool.label_values[code]))


def _names(values: list[Any], settings: DataSettings) -> list[str]:
    if not settings.label_names:
        return [str(value) for value in values]
    names = [name.strip() for name in settings.label_names.split(",")]
    if len(names) != len(values) or len(set(names)) != len(names) or not all(names):
        raise InputError(
            f"label_names {settings.label_names!r} names {len(names)} classes; column {settings.label_column!r} "
            f"has {len(values)}: {', '.join(map(str, values))}. Give one distinct name for each, in this order."
        )
    return names


def sorting_key(value: Any) -> tuple[bool, float, str]:
    """Numbers, also those written as text, by value ("10" after "9") and before words."""
    number = re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", str(value))
    return (number is None, float(number[0]) if number else 0.0, str(value))
