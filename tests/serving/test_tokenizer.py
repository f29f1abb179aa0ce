"""From texts to tokens in the server: requests take turns, keep their deadlines, and no more is read than counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, TokenIds
from serving.inference import Inference, OverloadedError
from serving.settings import QueueSettings
from serving.tokenizer import CHARACTERS_PER_TOKEN, CHUNK_CHARACTERS, TokenizerThread, chunks, encode, words
from tests import patience, tiny

LONG = "the food was great " * 300
ONE_WORD = "food" * 200


class Counted(Classifier):
    """A classifier that tells what it was given to encode."""

    @classmethod
    def of(cls, classifier: Classifier) -> Counted:
        counted = cls(classifier.engine, classifier._tokenizer, classifier.head, classifier.manifest)
        counted.given = []
        return counted

    given: list[list[str]]

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        self.given.append(list(texts))
        return super().encode(texts)


class Held(Counted):
    """One whose tokenizer waits with each turn until it is let go."""

    @classmethod
    def of(cls, classifier: Classifier) -> Held:
        held = super().of(classifier)
        assert isinstance(held, Held)
        held.begun, held.go = threading.Event(), threading.Event()
        return held

    begun: threading.Event
    go: threading.Event

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        self.begun.set()
        assert self.go.wait(timeout=patience.SECONDS)
        return super().encode(texts)

    async def is_busy(self) -> None:
        while not self.begun.is_set():
            await asyncio.sleep(0.001)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(tmp_path_factory.mktemp("encoding") / "model")


@pytest.fixture(scope="module")
def classifier(model_dir: Path) -> Classifier:
    return Classifier.load(model_dir)


@pytest.fixture(scope="module", params=["right", "left"])
def either_end(request: pytest.FixtureRequest, model_dir: Path) -> Iterator[Classifier]:
    """A classifier that cuts long texts at their end, or at their beginning."""
    classifier = Classifier.load(model_dir)
    classifier._tokenizer.truncation_side = request.param
    classifier = classifier.on(classifier.engine)  # where a fast tokenizer keeps it
    assert classifier.reads_the_end == (request.param == "left")
    yield classifier


def started(classifier: Classifier, model_dir: Path, **queue: Any) -> Inference:
    inference = Inference(classifier, replace(QueueSettings(timeout_s=patience.SECONDS), **queue))
    inference.start(model_dir, REFERENCE)
    return inference


PIECES = [
    *tiny.WORDS,
    "don't!",
    "ünknöwn",
    "食物很好",
    "\N{PILE OF POO}",
    "\n",
    "\t",
    "\x00",
    "\xa0",
    "  ",
    ONE_WORD,
]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from([1, 3, 80])), max_size=6), st.booleans())
def test_a_text_that_is_cut_has_the_tokens_and_words_that_it_has_as_a_whole(
    either_end: Classifier, parts: list[tuple[str, int]], apart: bool
) -> None:
    blank = " " if apart else ""
    text = blank.join(blank.join([piece] * times) for piece, times in parts)
    (cut,), (whole,) = encode(either_end, [text]), either_end.encode([text])
    assert cut.tolist() == whole.tolist()
    assert words(either_end, text) == either_end.words(text)


def test_no_more_of_a_long_text_is_read_than_the_model_can_need(classifier: Classifier) -> None:
    counted = Counted.of(classifier)
    encode(counted, ["good", LONG])
    assert [len(text) for texts in counted.given for text in texts] == [4, pytest.approx(8 * 64, abs=16)]
    assert CHARACTERS_PER_TOKEN * classifier.max_length == 8 * 64


def test_all_of_a_long_text_is_read_where_its_beginning_has_too_few_tokens(classifier: Classifier) -> None:
    blank_at_first = " " * 5_000 + "great food"
    assert [ids.tolist() for ids in encode(classifier, [blank_at_first])] == [
        ids.tolist() for ids in classifier.encode(["great food"])
    ]


@given(st.lists(st.integers(0, 2 * CHUNK_CHARACTERS).map("a".__mul__), max_size=6))
def test_a_turn_is_bounded_in_characters_and_no_text_is_lost(texts: list[str]) -> None:
    taken = list(chunks(texts))
    assert [text for turn in taken for text in turn] == texts
    assert all(len(turn) == 1 or sum(map(len, turn)) <= CHUNK_CHARACTERS for turn in taken)


def test_a_small_request_waits_for_one_turn_of_a_large_one_and_not_for_all(classifier: Classifier) -> None:
    held = Held.of(classifier)
    tokenizer = TokenizerThread(held)

    async def work() -> None:
        large = asyncio.create_task(tokenizer.tokens([LONG] * 50))
        await held.is_busy()
        small = asyncio.create_task(tokenizer.tokens(["good"]))
        await asyncio.sleep(0)  # it is in line
        held.go.set()
        assert len(await small) == 1
        assert len(await large) == 50

    asyncio.run(work())
    assert held.given[1] == ["good"]
    assert len(held.given) == len(list(chunks([LONG] * 50))) + 1 > 10


def test_a_deadline_that_passes_at_the_tokenizer_is_kept_and_ends_its_work(
    classifier: Classifier, model_dir: Path
) -> None:
    held = Held.of(classifier)
    inference = started(classifier, model_dir)
    inference.tokenizer = TokenizerThread(held)

    async def work() -> None:
        with pytest.raises(OverloadedError, match=r"not ready within 0\.05 s"):
            await inference.predict([LONG] * 50, timeout_s=0.05)
        assert inference.queued == 0
        held.go.set()
        assert len(await inference.predict(["good"])) == 1

    asyncio.run(work())
    assert held.given[-1] == ["good"]
    assert len(held.given) <= 2  # the turn that had begun, if one had, and this one


def test_a_request_whose_characters_would_take_too_long_is_turned_away_at_once(
    classifier: Classifier, model_dir: Path
) -> None:
    held = Held.of(classifier)
    inference = started(classifier, model_dir)
    inference.tokenizer = TokenizerThread(held)
    inference.tokenizer.characters_per_second = 10.0

    async def work() -> None:
        with pytest.raises(OverloadedError, match=r"longer than the [\d.]+ s that are left"):
            await inference.predict([LONG] * 50, timeout_s=patience.SECONDS)
        held.go.set()
        assert len(await inference.predict(["good"])) == 1

    asyncio.run(work())
    assert held.given == [["good"]]


def test_the_speed_of_the_tokenizer_is_measured_on_turns_that_are_full(classifier: Classifier) -> None:
    tokenizer = TokenizerThread(classifier)
    asyncio.run(tokenizer.tokens(["good"]))
    assert tokenizer.characters_per_second == float("inf")
    asyncio.run(tokenizer.tokens(["good food " * 2_000]))
    assert 0 < tokenizer.characters_per_second < float("inf")
