"""Answers that were given lately, so that the same text does not pay for the model twice."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from cachetools import TTLCache

from miniml.model.classifier import Probabilities
from serving.metrics import CACHE
from serving.settings import CacheSettings

if TYPE_CHECKING:
    Entries = TTLCache[bytes, Probabilities]


class PredictionCache:
    """Probabilities of one model by text, the least recently used going first.

    Who may ask can tell by an answer's haste, and by `/metrics`, that a text was asked before: decision 30.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._secret = secrets.token_bytes(32)  # so that nobody can look for two texts of one key
        self._entries: Entries | None = (
            TTLCache(settings.entries, settings.ttl_s) if settings.entries else None
        )

    def get(self, text: str) -> Probabilities | None:
        """The probabilities of `text`, or its number, shape [width], where they are known still."""
        if self._entries is None:
            return None
        found = self._entries.get(self._key(text))
        CACHE.labels("hit" if found is not None else "miss").inc()
        return found

    def put(self, text: str, probabilities: Probabilities) -> None:
        """Keeps the answer, if answers are kept."""
        if self._entries is not None:
            self._entries[self._key(text)] = probabilities.copy()  # and not all of its request's

    def _key(self, text: str) -> bytes:
        # A hash, so that no entry is larger than another and no text stays in memory.
        return hashlib.blake2b(text.encode(), key=self._secret, digest_size=16).digest()
