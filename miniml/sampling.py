"""Chooses some of many rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.int64]:
    """Returns the numbers of at most `most` of `count` rows, evenly spaced from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
