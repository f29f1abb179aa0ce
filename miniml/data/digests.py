"""Computes digests of texts, which are equal for texts that differ only in their white space."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from miniml.data.texts import Bytes, evenly_spaced, string_buffers

DIGEST_BYTES = 16


def digests(texts: pa.StringArray, meanings: Bytes) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Returns a BLAKE2b digest of each text.

    Args:
        texts: The texts.
        meanings: Their meanings, from `miniml.data.texts.meanings`.

    Returns:
        128 bits for each text, as an array of shape (texts, 2).
    """
    starts, content = string_buffers(texts)
    view, bounds = content.data, starts.tolist()
    found = [
        hashlib.blake2b(view[begin:end], digest_size=DIGEST_BYTES).digest()
        for begin, end in itertools.pairwise(bounds)
    ]
    for number in np.flatnonzero(~evenly_spaced(texts, meanings)).tolist():
        key = " ".join(texts[number].as_py().split())
        found[number] = hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()
    return np.frombuffer(b"".join(found), np.uint64).reshape(-1, 2)


NOTHING = np.frombuffer(hashlib.blake2b(b"", digest_size=DIGEST_BYTES).digest(), np.uint64)
"""The digest of a text that is empty or only white space."""
