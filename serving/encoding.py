"""Texts become tokens on a thread of their own, where requests take turns, and of a long text only what is read."""

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
from serving.health import Worker

# Of a turn; some milliseconds. A text that is longer has a turn by itself.
CHARACTERS_OF_A_TURN = 16_384
# English has 4 or 5. A text is first cut to so many times the maximal length, which mostly is enough to fill it.
CHARACTERS_OF_A_TOKEN = 8
# Where every tokenizer that knows words parts them; some take other white space for nothing, and join what it parts.
BLANK = " "
# Far below what any tokenizer does: a turn that takes longer than this allows for is taken for hung.
SLOWEST_CHARACTERS_PER_SECOND = 1_000
# How much the newest turn tells of the tokenizer's speed, against all those before.
WEIGHT_OF_THE_NEWEST = 0.1

Result = TypeVar("Result")


class Encoding:
    """The tokenizer's thread. There is one: a tokenizer is not made to be called by two.

    A request has one turn of bounded size in the thread's line at a time, and gets in line for the next when that is
    done. So what a request waits for depends on how many others there are, and not on how large they are.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.worker = Worker("the tokenizer")
        self.characters_per_second = math.inf
        self._classifier = classifier
        self._left: dict[object, int] = {}  # characters of each request that no turn has taken
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenizer")

    def seconds(self, texts: Iterable[str]) -> float:
        """How long it would take to encode `texts` now, as far as is known."""
        if math.isinf(self.characters_per_second):
            return 0.0
        own = sum(map(len, texts))
        return (own + sum(min(own, left) for left in self._left.values())) / self.characters_per_second

    async def tokens(self, texts: Sequence[str]) -> list[TokenIds]:
        """What `Classifier.encode` gives for `texts`. Cancelling the call drops the turns that have not begun."""
        request, found = object(), list[TokenIds]()
        self._left[request] = sum(map(len, texts))
        try:
            for turn in turns(texts):
                characters = sum(map(len, turn))
                found += await self._run(partial(encode, self._classifier, turn), characters)
                self._left[request] -= characters
        finally:
            del self._left[request]
        return found

    async def words(self, text: str) -> list[Span]:
        """The words of `text` that the model reads; see `Classifier.words`."""
        return await self._run(partial(words, self._classifier, text), len(text))

    async def _run(self, work: Callable[[], Result], characters: int) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._turn, work, characters)

    def _turn(self, work: Callable[[], Result], characters: int) -> Result:
        began = time.monotonic()
        with self.worker.at(characters / SLOWEST_CHARACTERS_PER_SECOND):
            result = work()
        if characters >= CHARACTERS_OF_A_TURN:  # less tells of what a call costs, however short its texts
            self._measure(characters / max(time.monotonic() - began, 1e-6))
        return result

    def _measure(self, speed: float) -> None:
        if math.isinf(self.characters_per_second):
            self.characters_per_second = speed
        else:
            self.characters_per_second += WEIGHT_OF_THE_NEWEST * (speed - self.characters_per_second)


def turns(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in their order, in parts of so many characters as a turn may have, or of one text that has more."""
    turn: list[str] = []
    characters = 0
    for text in texts:
        if turn and characters + len(text) > CHARACTERS_OF_A_TURN:
            yield turn
            turn, characters = [], 0
        turn.append(text)
        characters += len(text)
    if turn:
        yield turn


def encode(classifier: Classifier, texts: Sequence[str]) -> list[TokenIds]:
    """`Classifier.encode`, to the same result, without reading long texts as a whole."""
    characters = CHARACTERS_OF_A_TOKEN * classifier.max_length
    parts = [_part(classifier, text, characters) for text in texts]
    encoded = classifier.encode(parts)
    for place, (text, part) in enumerate(zip(texts, parts, strict=True)):
        if len(part) < len(text) and len(encoded[place]) < classifier.max_length:
            (encoded[place],) = classifier.encode([text])
    return encoded


def words(classifier: Classifier, text: str) -> list[Span]:
    """`Classifier.words`, likewise."""
    part = _part(classifier, text, CHARACTERS_OF_A_TOKEN * classifier.max_length)
    if len(part) < len(text) and len(classifier.encode([part])[0]) < classifier.max_length:
        part = text
    begin = len(text) - len(part) if classifier.reads_the_end else 0
    return [(begin + first, begin + beyond) for first, beyond in classifier.words(part)]


def _part(classifier: Classifier, text: str, characters: int) -> str:
    """What of `text` the model reads, in at most so many characters, if those come to as many tokens as it reads.

    It ends between two words (or begins there, where the end is what is read): what a tokenizer makes of a word does
    not depend on the words around it. A text without a blank at that place is left whole.
    """
    if len(text) <= characters:
        return text
    if classifier.reads_the_end:
        part = text[-characters:].partition(BLANK)[2].lstrip(BLANK)
        return BLANK + part if part else text
    return text[:characters].rpartition(BLANK)[0].rstrip(BLANK) or text
