"""Describes labels that are numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def describe_numbers(labels: npt.NDArray[Any]) -> dict[str, float]:
    """Returns what `DatasetSummary.numbers` holds: least, median, mean, most, and the standard deviation.

    Args:
        labels: At least one number, shape [rows].
    """
    return {
        "least": float(labels.min()),
        "median": float(np.median(labels)),
        "mean": float(labels.mean()),
        "most": float(labels.max()),
        "deviation": float(labels.std()),
    }
