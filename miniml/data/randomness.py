"""Shuffles rows in the same way everywhere: by a hash of their content instead of a library's generator.

A row's random number depends neither on other rows nor on its position in the source. So rows that are added or come
in another order do not change the order of the rows that were there.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from miniml.data.pool import Ints

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def keys(hashes: Hashes, seed: int, purpose: str) -> Hashes:
    """Returns a random number for each hash.

    NumPy's generators may draw other numbers in another version, so this is the finalizer of SplitMix64, a bijection:
    Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (https://doi.org/10.1145/2660193.2660195).

    Args:
        hashes: Hashes of the rows' content, of shape (rows,).
        seed: The seed.
        purpose: What the numbers are for; other purposes get independent numbers.

    Returns:
        The numbers, of shape (rows,); different hashes have different ones.
    """
    start = int.from_bytes(hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest(), "little")
    mixed = hashes * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def shuffled(rows: Ints, hashes: Hashes, seed: int, purpose: str) -> Ints:
    """Returns the rows in random order.

    Args:
        rows: The numbers of rows of the pool.
        hashes: Hashes of the content of all rows of the pool.
        seed: The seed.
        purpose: What the order is for; other purposes get independent orders.
    """
    return rows[np.argsort(keys(hashes[rows], seed, purpose), kind="stable")]
