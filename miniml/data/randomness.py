"""Random order that is the same everywhere: by a hash of what each row holds, not by a library's generator.

A row's place in it depends on no other row, and not on where the source has it: rows that come in addition, or in
another order, leave the order of those that were there.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from miniml.data.pool import Ints

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def keys(hashes: Hashes, seed: int, purpose: str) -> Hashes:
    """A random number for each hash: the finalizer of SplitMix64, which is a bijection, so that all differ.

    numpy may change what its generators draw from one version to the next; this stays.
    """
    start = int.from_bytes(hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest(), "little")
    mixed = hashes * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def shuffled(rows: Ints, hashes: Hashes, seed: int, purpose: str) -> Ints:
    """`rows` in random order. `hashes` are of what all rows of the pool hold, by the pool's numbers."""
    return rows[np.argsort(keys(hashes[rows], seed, purpose), kind="stable")]
