"""Cuts the test into quarters by a number: a length, a label, or a column."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BINS = 4
MISSING = "(none)"

Mask = npt.NDArray[np.bool_]


def quarters(values: npt.NDArray[np.float64], *, whole: bool) -> Iterator[tuple[str, Mask]]:
    """Yields the range of each quarter of the rows and a mask of its rows; equal values stay together.

    Args:
        values: The rows' numbers, shape [rows]; rows where they are not finite make a part of their own.
        whole: Whether the numbers are whole, and are written so.
    """
    known = np.isfinite(values)
    edges = np.array([])
    if known.any():
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, BINS + 1), method="nearest"))
    if len(edges) == 1:
        edges = np.append(edges, np.inf)
    for number, (begin, end) in enumerate(itertools.pairwise(edges)):
        last = number == len(edges) - 2
        inside = known & (values >= begin) & ((values <= end) if last else (values < end))
        if inside.any():
            least, most = values[inside].min(), values[inside].max()
            ends = (f"{edge:,.0f}" if whole else f"{edge:,.4g}" for edge in dict.fromkeys((least, most)))
            yield " to ".join(ends), inside
    if not known.all():
        yield MISSING, ~known
