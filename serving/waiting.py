"""What waits for the engine, and which of it makes the next batch.

No timer collects a batch: it is what came while the engine was busy. An idle engine therefore answers a
lone request at once, and a busy one fills its batches by itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest

import numpy as np

from miniml.model.classifier import Probabilities
from miniml.model.engines import TokenIds

# Texts that are sorted by length to choose a batch among. More would find closer lengths, and cost more
# time under the lock that the event loop takes too.
WINDOW = 128
# Padding that is worth one forward pass less, in tokens: what its fixed cost comes to on a small model.
TOKENS_OF_A_PASS = 64


@dataclass(eq=False)
class Text:
    """One text of a request."""

    request: Request
    place: int
    """Among the texts that its request came with."""
    token_ids: TokenIds
    queued: float
    """When, on the clock of `time.monotonic`, in seconds."""


@dataclass(eq=False)
class Request:
    """Texts that came together, and their answer. All but `waiting` belongs to the event loop."""

    answer: asyncio.Future[Probabilities]
    """In the end the probabilities, or numbers, shape [texts, width]."""
    rows: Probabilities
    unanswered: int
    tokens: int
    waiting: list[Text] = field(default_factory=list)
    """Those that no batch has taken yet."""

    @classmethod
    def of(cls, token_ids: Sequence[TokenIds], width: int, answer: asyncio.Future[Probabilities]) -> Request:
        rows = np.empty((len(token_ids), width), dtype=np.float32)
        request = cls(answer, rows, len(token_ids), sum(map(len, token_ids)))
        now = time.monotonic()
        request.waiting = [Text(request, place, ids, now) for place, ids in enumerate(token_ids)]
        return request

    def put(self, place: int, row: Probabilities) -> None:
        """Takes one text's probabilities, or number, shape [width]; the last of them completes the answer."""
        self.rows[place] = row
        self.unanswered -= 1
        if not self.unanswered and not self.answer.done():
            self.answer.set_result(self.rows)

    def fail(self, error: Exception) -> None:
        """Ends the request with what the engine raised."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Waiting:
    """The requests that wait; the event loop adds, the engines' threads take."""

    def __init__(self, token_budget: int) -> None:
        self.tokens = 0
        """That wait, without padding."""
        self.running = 0
        """Batches that were taken and are not done."""
        self.budget = token_budget
        """Of a batch, in tokens once it is padded."""
        self.padding = TOKENS_OF_A_PASS
        """That one more text may cost a batch, in tokens; 0 keeps to texts of one length."""
        self._requests: list[Request] = []
        self._changed = threading.Condition()

    def add(self, request: Request) -> None:
        """Puts all texts of `request` in line."""
        with self._changed:
            self._requests.append(request)
            self.tokens += request.tokens
            self._changed.notify()

    def drop(self, request: Request) -> None:
        """Takes out what still waits of `request`."""
        with self._changed:
            self._remove(request, request.waiting)

    def tokens_before(self, request: Request) -> float:
        """Tokens that will be run before the last of `request`, were it added now; requests take turns."""
        turns = len(request.waiting)
        with self._changed:
            return sum(sum(len(text.token_ids) for text in other.waiting[:turns]) for other in self._requests)

    def take(self) -> list[Text]:
        """The next batch; waits until there is one.

        It holds the text that is first in line, so that none starves, and of those after it the ones of
        like length. A request of many texts and one of few take turns.
        """
        with self._changed:
            while not self._requests:
                self._changed.wait()
            window = list(islice(_in_turns([request.waiting for request in self._requests]), WINDOW))
            batch = of_like_length(window, self.budget, self.padding)
            for request in {id(text.request): text.request for text in batch}.values():
                self._remove(request, [text for text in batch if text.request is request])
            self.running += 1
            return batch

    @property
    def all_taken(self) -> bool:
        """Whether one batch runs, and nothing waits to run beside it."""
        with self._changed:
            return self.running == 1 and not self._requests

    def done(self) -> None:
        """Says that a batch, once taken, runs no more."""
        with self._changed:
            self.running -= 1

    def _remove(self, request: Request, texts: Sequence[Text]) -> None:
        if not texts:
            return
        gone = {text.place for text in texts}
        self.tokens -= sum(len(text.token_ids) for text in texts)
        request.waiting = [text for text in request.waiting if text.place not in gone]
        if not request.waiting:
            self._requests.remove(request)


def _in_turns(lines: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """The first of each line, then the second of each, and so on."""
    return (text for turn in zip_longest(*lines) for text in turn if text is not None)


def of_like_length(window: Sequence[Text], budget: int, padding: int) -> list[Text]:
    """The first of `window` and those nearest to it in length, within `budget` tokens once they are padded.

    None of them adds more than `padding` tokens that are no text's.
    """
    line = sorted(window, key=lambda text: len(text.token_ids))
    lengths = [len(text.token_ids) for text in line]
    low = high = next(place for place, text in enumerate(line) if text is window[0])
    while True:
        count, longest = high - low + 1, lengths[high]
        wider = []  # (padding that it adds, low, high)
        if low > 0 and (count + 1) * longest <= budget:
            wider.append((longest - lengths[low - 1], low - 1, high))
        if high + 1 < len(line) and (count + 1) * lengths[high + 1] <= budget:
            wider.append(((lengths[high + 1] - longest) * count, low, high + 1))
        if not wider or min(wider)[0] > padding:
            return line[low : high + 1]
        _, low, high = min(wider)
