"""Caches recent answers, so that the model does not run twice on the same text."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from cachetools import TTLCache

from miniml.model.classifier import Probabilities

from .metrics import CACHE
from .settings import CacheSettings

if TYPE_CHECKING:
    Entries = TTLCache[bytes, Probabilities]


class PredictionCache:
    """The probabilities of one model by text; the least recently used go first.

    Clients can tell by an answer's speed, and by `/metrics`, that a text was asked before: decision 30.
    """

    def __init__(self, settings: CacheSettings) -> None:
        # Nobody can search for two texts of one key without it.
        self._secret = secrets.token_bytes(32)
        self._entries: Entries | None = (
            TTLCache(settings.entries, settings.ttl_s) if settings.entries else None
        )

    def get(self, text: str) -> Probabilities | None:
        """Returns the probabilities of `text`, or its value, shape [width], or None where they are not in the cache."""
        if self._entries is None:
            return None
        found = self._entries.get(self._key(text))
        CACHE.labels("hit" if found is not None else "miss").inc()
        return found

    def put(self, text: str, probabilities: Probabilities) -> None:
        """Keeps the answer to `text`, if the cache is on.

        Args:
            text: The text as it was asked.
            probabilities: Its probabilities, or its value, shape [width].
        """
        if self._entries is not None:
            # A view would keep the rows of the whole request alive.
            self._entries[self._key(text)] = probabilities.copy()

    def _key(self, text: str) -> bytes:
        # Hashes make all entries the same size, and keep no text in memory.
        return hashlib.blake2b(text.encode(), key=self._secret, digest_size=16).digest()
