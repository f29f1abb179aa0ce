"""Finds texts that are nearly the same: candidates by MinHash and banding, then by their exact similarity.

A text is the set of its word triples (shingles), without case and punctuation. The similarity of two texts is the
Jaccard index of their sets: the triples in both, divided by the triples in either. The method is in Leskovec, Rajaraman
and Ullman, Mining of Massive Datasets, chapter 3 (http://www.mmds.org).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rensa import RMinHash

from miniml.data.pool import Ints, Pool
from miniml.progress import Progress

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

WORDS_IN_A_SHINGLE = 3
PERMUTATIONS = 128
SEED = 42
# The fraction of the pairs exactly at the threshold that the bands must find; it determines their width.
FOUND_AT_THRESHOLD = 0.995
# In a band that many texts share (boilerplate), each is compared with the first ones and its neighbours only.
MAX_COMPARED = 16
# How many texts are in memory while pairs are compared, or twice as many; 20,000 long reviews are some 50 MB.
TEXTS_AT_A_TIME = 20_000
# How many words' hashes are cached, before the cache is emptied.
MAX_WORDS = 1_000_000

# Chinese, Japanese, Thai, Lao, Burmese and Khmer have no spaces between words, so each character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that are nearly the same, as arrays of shape (pairs,)."""

    first: Ints
    """The row of lower priority of each pair."""
    second: Ints
    """The other row of each pair."""
    similarity: np.ndarray[Any, np.dtype[np.float64]]
    """The Jaccard index of each pair."""


def find_pairs(pool: Pool, rows: Ints, priority: Ints, threshold: float) -> Pairs:
    """Returns the pairs of rows whose similarity is at least the threshold.

    Args:
        pool: The pool.
        rows: The numbers of the rows to compare, sorted.
        priority: A number for each row of the pool; of many texts that share a band, those with the lowest numbers are
            compared with all others.
        threshold: The least similarity, between 0 and 1.
    """
    candidates = _candidates(_bands(pool, rows, threshold), priority[rows])
    left, right = rows[candidates[:, 0]], rows[candidates[:, 1]]
    similarity = _similarities(pool, left, right)
    alike = similarity >= threshold
    return Pairs(left[alike], right[alike], similarity[alike])


def rows_per_band(threshold: float) -> int:
    """Returns the width of the bands: the largest that finds `FOUND_AT_THRESHOLD` of the pairs at the threshold.

    A pair of similarity s agrees in a band of r of the n minima with probability s^r, and in at least one of the n/r
    bands with 1 - (1 - s^r)^(n/r). Wider bands give fewer candidates.
    """
    fitting = [
        rows
        for rows in range(1, PERMUTATIONS + 1)
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= FOUND_AT_THRESHOLD
    ]
    return max(fitting)


def _bands(pool: Pool, rows: Ints, threshold: float) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Returns 32-bit hashes of the bands, of shape (bands, rows); their collisions are sorted out later."""
    width = rows_per_band(threshold)
    count = PERMUTATIONS // width
    bands = np.empty((count, len(rows)), np.uint32)
    hasher = _Hasher()
    progress = Progress("looking for near-duplicates in", len(rows), "rows")
    for begin, minima in _minima(pool, rows, hasher):
        progress.report(begin)
        mixed = np.zeros((len(minima), count), np.uint64)
        for part in range(width):
            mixed ^= minima[:, part : part + count * width : width]
            mixed = _mix(mixed)
        bands[:, begin : begin + len(minima)] = (mixed >> np.uint64(32)).T
    return bands


def _minima(pool: Pool, rows: Ints, hasher: _Hasher) -> Iterator[tuple[int, Hashes]]:
    begin = 0
    for start, batch in pool.batches():
        end = int(np.searchsorted(rows, start + batch.num_rows))
        wanted = rows[begin:end] - start
        if not len(wanted):
            continue
        texts = batch.column("text").take(wanted).to_pylist()
        hashes, offsets = hasher.shingles(texts)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, PERMUTATIONS, SEED)
        yield begin, np.array(matrix.to_rows(), np.uint32).astype(np.uint64)
        begin = end


class _Hasher:
    """Computes shingles as 64-bit numbers that are the same on every machine."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}

    def shingles(self, texts: list[str]) -> tuple[Hashes, Hashes]:
        """Returns the shingles of all texts in one array, and the offsets of each text's, of shape (texts + 1,)."""
        known = self._words
        if len(known) > MAX_WORDS:
            known.clear()
        flat: list[int] = []
        counts = np.empty(len(texts), np.int64)
        for number, text in enumerate(texts):
            words = _WORD.findall(text.casefold()) or [text]
            counts[number] = len(words)
            for word in words:
                if (hashed := known.get(word)) is None:
                    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                    hashed = known[word] = int.from_bytes(digest, "little")
                flat.append(hashed)
        return _windows(np.array(flat, np.uint64), counts)


def _windows(words: Hashes, counts: Ints) -> tuple[Hashes, Hashes]:
    """Returns hashes of all `WORDS_IN_A_SHINGLE` consecutive words within a text; a shorter text is one shingle."""
    ends = counts.cumsum()
    positions = np.arange(len(words)) - np.repeat(ends - counts, counts)
    left = np.repeat(counts, counts) - positions
    mixed = _mix(words)
    for ahead in range(1, WORDS_IN_A_SHINGLE):
        following = np.where(left > ahead, np.roll(words, -ahead), np.uint64(0))
        mixed = _mix(mixed ^ following)
    begins = (left >= WORDS_IN_A_SHINGLE) | (positions == 0)
    shingles = np.maximum(counts - WORDS_IN_A_SHINGLE + 1, 1)
    return mixed[begins], np.append(0, shingles.cumsum()).astype(np.uint64)


def _mix(values: Hashes) -> Hashes:
    """Mixes the bits of each value, so that a hash of several values depends on their order."""
    values = (values ^ (values >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (values ^ (values >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)


def _candidates(bands: np.ndarray[Any, np.dtype[np.uint32]], priority: Ints) -> Ints:
    """Returns pairs of positions that agree in at least one band, of shape (pairs, 2), the lower priority first."""
    count = bands.shape[1]
    order_first = np.argsort(priority, kind="stable")
    found: list[Ints] = [np.zeros(0, np.int64)]
    for band in bands:
        order = order_first[np.argsort(band[order_first], kind="stable")]
        keys = band[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if count else np.zeros(0, np.int64)
        sizes = np.diff(np.append(starts, count))
        ahead = np.repeat(starts + sizes, sizes) - np.arange(count) - 1
        # Each with the next MAX_COMPARED - 1 of its group.
        for distance in range(1, min(MAX_COMPARED, int(sizes.max(initial=1)))):
            near = np.flatnonzero(ahead >= distance)
            found.append(order[near] * count + order[near + distance])
        # In large groups also with the first ones, which have the lowest priority.
        rank = np.arange(count) - np.repeat(starts, sizes)
        for first in range(min(MAX_COMPARED, int(sizes.max(initial=1)))):
            far = np.flatnonzero(rank >= first + MAX_COMPARED)
            found.append(order[far - rank[far] + first] * count + order[far])
        found = [_different(np.concatenate(found))]
    pairs = found[0]
    return np.stack([pairs // max(1, count), pairs % max(1, count)], axis=1)


def _different(numbers: Ints) -> Ints:
    """Returns the distinct numbers, sorted. NumPy's `unique` uses hashes, ten times slower for millions."""
    ordered = np.sort(numbers)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def _similarities(pool: Pool, left: Ints, right: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    similarity = np.zeros(len(left))
    hasher = _Hasher()
    pairs = max(1, TEXTS_AT_A_TIME // 2)
    shingles: dict[int, frozenset[int]] = {}
    for begin in range(0, len(left), pairs):
        a, b = left[begin : begin + pairs], right[begin : begin + pairs]
        rows = np.unique(np.concatenate([a, b]))
        if len(shingles) > TEXTS_AT_A_TIME:
            shingles = {}
        # If many texts are alike, the next pairs are mostly of texts that are in memory.
        new = rows[[row not in shingles for row in rows.tolist()]]
        shingles |= _shingle_sets(pool, new, hasher)
        similarity[begin : begin + pairs] = [
            _jaccard(shingles[one], shingles[other])
            for one, other in zip(a.tolist(), b.tolist(), strict=True)
        ]
    return similarity


def _shingle_sets(pool: Pool, rows: Ints, hasher: _Hasher) -> dict[int, frozenset[int]]:
    texts = dict(pool.texts(rows))
    hashes, offsets = hasher.shingles([*texts.values()])
    return {
        row: frozenset(hashes[begin:end].tolist())
        for row, begin, end in zip(texts, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    }


def _jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
