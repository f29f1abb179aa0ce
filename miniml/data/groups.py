"""The groups that rows belong to, none of which may stand in two splits."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from miniml.data.columns import dictionary
from miniml.data.randomness import Hashes
from miniml.data.spelling import spelled, whole


def group_hashes(column: pa.Array, digests: Hashes) -> Hashes:
    """64 bits for each row's group. `digests` (rows, 2) are of the rows' texts.

    A row without a group (no value, a blank one, or nan) is one by itself, which its text identifies.
    """
    encoded = dictionary(column)
    names = [_name(value) for value in encoded.dictionary.to_pylist()]
    # The last entry is for rows that have no value.
    of_names = np.array([_hash(name) for name in [*names, ""]], np.uint64)
    missing = np.array([not name for name in [*names, ""]])
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(missing[indices], digests[:, 0], of_names[indices])


def _name(value: Any) -> str:
    """7 and 7.0 are one group, as are names that differ by blanks; "" is none."""
    return "" if value is None or value != value else whole(spelled(value))


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
