"""Queues requests, and makes the next batch from them.

No timer collects a batch: a batch is what arrived while the engine was busy. So an idle engine answers a single request
at once, and a busy one fills its batches by itself.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest

import numpy as np

from miniml.model.classifier import Probabilities
from miniml.model.engines import TokenIds

# The number of texts that are sorted by length to select a batch. More would give closer lengths, but would hold the
# lock, which the event loop needs too, for longer.
WINDOW = 128
# The padding, in tokens, that costs as much as a forward pass does whatever its size, on a small model.
PADDING_PER_PASS = 64


@dataclass(eq=False)
class QueuedText:
    """One text of a request, tokenized."""

    request: QueuedRequest
    place: int
    """Its index among the texts of its request."""
    token_ids: TokenIds
    queued: float
    """When the text was queued, in seconds of `time.monotonic`."""


@dataclass(eq=False)
class QueuedRequest:
    """The texts of one request, and their answer. All but `pending` belongs to the event loop's thread."""

    answer: asyncio.Future[Probabilities]
    """Becomes the probabilities, or values, shape [texts, width]."""
    rows: Probabilities
    """The rows of the answer as far as they are known, shape [texts, width]."""
    unanswered: int
    """The number of texts without a row."""
    tokens: int
    """The number of tokens of all texts, without padding."""
    pending: list[QueuedText] = field(default_factory=list)
    """The texts that no batch has taken yet."""

    @classmethod
    def of(
        cls, token_ids: Sequence[TokenIds], width: int, answer: asyncio.Future[Probabilities]
    ) -> QueuedRequest:
        """Makes a request of tokenized texts.

        Args:
            token_ids: The tokens of each text.
            width: The number of columns of the answer.
            answer: The future to complete.
        """
        rows = np.empty((len(token_ids), width), dtype=np.float32)
        request = cls(answer, rows, len(token_ids), sum(map(len, token_ids)))
        now = time.monotonic()
        request.pending = [QueuedText(request, place, ids, now) for place, ids in enumerate(token_ids)]
        return request

    def put(self, place: int, row: Probabilities) -> None:
        """Stores one text's probabilities, or value, shape [width]; the last row completes the answer."""
        self.rows[place] = row
        self.unanswered -= 1
        if not self.unanswered and not self.answer.done():
            self.answer.set_result(self.rows)

    def fail(self, error: Exception) -> None:
        """Fails the answer with what the engine raised."""
        if not self.answer.done():
            self.answer.set_exception(error)


class BatchQueue:
    """The requests that wait: the event loop adds them, and the engine's threads take their texts in batches."""

    def __init__(self, token_budget: int) -> None:
        self.pending_tokens = 0
        """The number of tokens in the queue, without padding."""
        self.running_batches = 0
        """The number of batches that were taken and are not done."""
        self.taken_batches = 0
        """The number of batches that were taken so far."""
        self.max_running = math.inf
        """The number of batches that may run at the same time."""
        self.token_budget = token_budget
        """The size that a batch may have, in tokens with padding."""
        self.max_padding = PADDING_PER_PASS
        """The padding that one more text may add to a batch, in tokens; 0 makes batches of one length."""
        self._requests: list[QueuedRequest] = []
        self._changed = threading.Condition()
        self._idle_since = time.monotonic()

    def add(self, request: QueuedRequest) -> None:
        """Queues all texts of `request`."""
        with self._changed:
            self._requests.append(request)
            self.pending_tokens += request.tokens
            self._changed.notify()

    def drop(self, request: QueuedRequest) -> None:
        """Removes the texts of `request` that no batch has taken."""
        with self._changed:
            self._remove(request, request.pending)

    def tokens_before(self, request: QueuedRequest) -> float:
        """Returns the number of tokens that would run before the last of `request`, were it added now."""
        rounds = len(request.pending)
        with self._changed:
            return sum(
                sum(len(text.token_ids) for text in other.pending[:rounds]) for other in self._requests
            )

    def take(self) -> list[QueuedText]:
        """Waits for texts, and returns the next batch.

        The batch holds the first text in line, so that none starves, and texts of similar length after it. Requests
        take turns, text by text, so that a large one does not hold up a small one.
        """
        with self._changed:
            while not self._requests or self.running_batches >= self.max_running:
                self._changed.wait()
            window = list(islice(_round_robin([request.pending for request in self._requests]), WINDOW))
            batch = select_similar_lengths(window, self.token_budget, self.max_padding)
            for request in {id(text.request): text.request for text in batch}.values():
                self._remove(request, [text for text in batch if text.request is request])
            self.running_batches += 1
            self.taken_batches += 1
            return batch

    @property
    def runs_alone(self) -> bool:
        """Whether a single batch runs, and no text waits."""
        with self._changed:
            return self.running_batches == 1 and not self._requests

    def done(self) -> None:
        """Notes that a batch has run."""
        with self._changed:
            self.running_batches -= 1
            self._idle_since = time.monotonic()
            self._changed.notify()

    @property
    def idle_s(self) -> float:
        """The seconds for which no text has waited and no batch has run."""
        with self._changed:
            busy = self._requests or self.running_batches
            return 0.0 if busy else time.monotonic() - self._idle_since

    def _remove(self, request: QueuedRequest, texts: Sequence[QueuedText]) -> None:
        if not texts:
            return
        gone = {text.place for text in texts}
        self.pending_tokens -= sum(len(text.token_ids) for text in texts)
        request.pending = [text for text in request.pending if text.place not in gone]
        if not request.pending:
            self._requests.remove(request)


def _round_robin(lines: Sequence[Sequence[QueuedText]]) -> Iterator[QueuedText]:
    """Yields the first of each line, then the second of each, and so on."""
    return (text for turn in zip_longest(*lines) for text in turn if text is not None)


def select_similar_lengths(window: Sequence[QueuedText], budget: int, padding: int) -> list[QueuedText]:
    """Selects the first of `window`, and texts nearest to it in length.

    Args:
        window: Texts in the order of their turns.
        budget: The size that the batch may have, in tokens with padding.
        padding: The padding that each further text may add, in tokens.

    Returns:
        The batch, from the shortest text to the longest.
    """
    line = sorted(window, key=lambda text: len(text.token_ids))
    lengths = [len(text.token_ids) for text in line]
    low = high = next(place for place, text in enumerate(line) if text is window[0])
    while True:
        count, longest = high - low + 1, lengths[high]
        # Each candidate: the padding that it adds, and its bounds.
        wider = []
        if low > 0 and (count + 1) * longest <= budget:
            wider.append((longest - lengths[low - 1], low - 1, high))
        if high + 1 < len(line) and (count + 1) * lengths[high + 1] <= budget:
            wider.append(((lengths[high + 1] - longest) * count, low, high + 1))
        if not wider or min(wider)[0] > padding:
            return line[low : high + 1]
        _, low, high = min(wider)
