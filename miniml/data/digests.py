"""What tells texts apart, all white space alike: a digest of each."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from miniml.data.texts import Bytes, evenly_spaced, string_buffers

DIGEST_BYTES = 16


def digests(texts: pa.StringArray, meanings: Bytes) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """(texts, 2): 128 bits of BLAKE2b of each. `meanings` are those of `miniml.data.texts`."""
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
"""That of a text without anything but white space."""
