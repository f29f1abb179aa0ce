"""Runs the tokenizer on a thread of its own, one request at a time.

Only the part of a long text that the model reads is tokenized.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from miniml.model.classifier import Classifier, Span
from miniml.model.engines import TokenIds

from .health import Worker

# The size of a chunk, which takes some milliseconds. A longer text is a chunk by itself.
CHUNK_CHARACTERS = 16_384
# English has 4 or 5. A text is first cut to the maximal length times this, which is nearly always enough to fill it.
CHARACTERS_PER_TOKEN = 8
# Every tokenizer that knows words splits them here. Some drop other white space, and join the words around it.
BLANK = " "
# Far below any tokenizer's speed: a chunk that takes longer than this means that the thread hangs.
SLOWEST_CHARACTERS_PER_SECOND = 1_000
# The weight of the newest chunk in the moving average of the tokenizer's speed.
SPEED_SMOOTHING = 0.1

Result = TypeVar("Result")


class TokenizerThread:
    """The tokenizer's thread. There is one, because a tokenizer is not safe to call from several threads.

    A request has one chunk of bounded size in the thread's queue at a time, and queues the next when that is done. So
    its waiting time depends on how many other requests there are, and not on how large they are.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.worker = Worker("the tokenizer")
        self.characters_per_second = math.inf
        self._classifier = classifier
        # The characters of each request that are not tokenized yet.
        self._remaining: dict[object, int] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    def seconds(self, texts: Iterable[str]) -> float:
        """Estimates how long it would take to tokenize `texts` now, in seconds; 0 before any measurement."""
        if math.isinf(self.characters_per_second):
            return 0.0
        own = sum(map(len, texts))
        return (own + sum(min(own, left) for left in self._remaining.values())) / self.characters_per_second

    async def tokens(self, texts: Sequence[str]) -> list[TokenIds]:
        """Returns what `Classifier.encode` returns for `texts`.

        Cancelling the call drops the chunks that have not begun.
        """
        request, found = object(), list[TokenIds]()
        self._remaining[request] = sum(map(len, texts))
        try:
            for chunk in chunks(texts):
                characters = sum(map(len, chunk))
                found += await self._run(partial(encode, self._classifier, chunk), characters)
                self._remaining[request] -= characters
        finally:
            del self._remaining[request]
        return found

    async def words(self, text: str) -> list[Span]:
        """Returns the words of `text` that the model reads; see `Classifier.words`."""
        return await self._run(partial(words, self._classifier, text), len(text))

    async def _run(self, work: Callable[[], Result], characters: int) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._timed, work, characters)

    def _timed(self, work: Callable[[], Result], characters: int) -> Result:
        began = time.monotonic()
        with self.worker.working(characters / SLOWEST_CHARACTERS_PER_SECOND):
            result = work()
        if characters >= CHUNK_CHARACTERS:
            # Smaller chunks would measure the fixed cost of a call.
            self._measure(characters / max(time.monotonic() - began, 1e-6))
        return result

    def _measure(self, speed: float) -> None:
        if math.isinf(self.characters_per_second):
            self.characters_per_second = speed
        else:
            self.characters_per_second += SPEED_SMOOTHING * (speed - self.characters_per_second)


def chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Splits `texts` into chunks, in their order.

    Returns:
        Lists of texts of at most `CHUNK_CHARACTERS` characters together, or of a single longer text.
    """
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if chunk and characters + len(text) > CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk


def encode(classifier: Classifier, texts: Sequence[str]) -> list[TokenIds]:
    """Returns what `Classifier.encode` returns, without tokenizing long texts as a whole."""
    characters = CHARACTERS_PER_TOKEN * classifier.max_length
    parts = [_excerpt(classifier, text, characters) for text in texts]
    encoded = classifier.encode(parts)
    for place, (text, part) in enumerate(zip(texts, parts, strict=True)):
        if len(part) < len(text) and len(encoded[place]) < classifier.max_length:
            (encoded[place],) = classifier.encode([text])
    return encoded


def words(classifier: Classifier, text: str) -> list[Span]:
    """Returns what `Classifier.words` returns, without tokenizing a long text as a whole."""
    part = _excerpt(classifier, text, CHARACTERS_PER_TOKEN * classifier.max_length)
    if len(part) < len(text) and len(classifier.encode([part])[0]) < classifier.max_length:
        part = text
    begin = len(text) - len(part) if classifier.reads_the_end else 0
    return [(begin + first, begin + beyond) for first, beyond in classifier.words(part)]


def _excerpt(classifier: Classifier, text: str, characters: int) -> str:
    """Returns the part of `text` that the model reads, provided that `characters` make as many tokens as it reads.

    The part ends between two words, or begins there where the model reads the end, because the tokens of a word do not
    depend on the words around it. A text without a blank in that place stays whole.
    """
    if len(text) <= characters:
        return text
    if classifier.reads_the_end:
        part = text[-characters:].partition(BLANK)[2].lstrip(BLANK)
        return BLANK + part if part else text
    return text[:characters].rpartition(BLANK)[0].rstrip(BLANK) or text
