"""Random order that is the same everywhere: by a hash of each row's number, not by a library's generator."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from miniml.data.pool import Ints


def keys(rows: Ints, seed: int, purpose: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A random number for each row: the finalizer of SplitMix64, which is a bijection, so that all differ.

    numpy may change what its generators draw from one version to the next; this stays.
    """
    start = int.from_bytes(hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest(), "little")
    mixed = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def shuffled(rows: Ints, seed: int, purpose: str) -> Ints:
    """`rows` in random order."""
    return rows[np.argsort(keys(rows, seed, purpose), kind="stable")]
