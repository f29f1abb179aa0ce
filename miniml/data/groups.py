"""Identifies the groups of rows, none of which may be in two splits."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from miniml.data.columns import dictionary
from miniml.data.randomness import Hashes
from miniml.data.spelling import spelled, whole


def group_hashes(column: pa.Array, digests: Hashes) -> Hashes:
    """Returns a hash of each row's group.

    A row without a group (no value, a blank one, or nan) is a group of its own, identified by its text.

    Args:
        column: The values of `group_column`.
        digests: The digests of the rows' texts, of shape (rows, 2).

    Returns:
        64 bits for each row, of shape (rows,).
    """
    encoded = dictionary(column)
    names = [_name(value) for value in encoded.dictionary.to_pylist()]
    # The last entry is for rows that have no value.
    of_names = np.array([_hash(name) for name in [*names, ""]], np.uint64)
    missing = np.array([not name for name in [*names, ""]])
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(missing[indices], digests[:, 0], of_names[indices])


def _name(value: Any) -> str:
    """Returns the group's name, the same for 7 and 7.0 and for names that differ in blanks; "" is no group."""
    return "" if value is None or value != value else whole(spelled(value))


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
