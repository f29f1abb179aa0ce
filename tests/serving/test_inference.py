"""Inference across requests: batches, limits of the queue, deadlines, hang-ups, the cache."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, Engine, Logits, TokenIds
from miniml.tasks import SingleLabelPrediction
from serving.inference import Inference, InferenceError, OverloadedError
from serving.settings import CacheSettings, QueueSettings
from tests import patience, tiny

NO_CACHE = CacheSettings(entries=0)
PATIENT = QueueSettings(timeout_s=patience.SECONDS)


class HeldEngine:
    """An engine that begins no batch until it is let go, and tells how large each was."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.batches: list[int] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.error: Exception | None = None
        self._engine = engine

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        self.batches.append(len(token_ids))
        self.begun.set()
        assert self.go.wait(timeout=patience.SECONDS)
        if self.error:
            raise self.error
        return self._engine(token_ids, attention_mask)

    async def is_busy(self) -> None:
        while not self.begun.is_set():
            await asyncio.sleep(0.001)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(tmp_path_factory.mktemp("inference") / "model")


@pytest.fixture(scope="module")
def classifier(model_dir: Path) -> Classifier[SingleLabelPrediction]:
    return Classifier.load(model_dir, SingleLabelPrediction)


def started(
    classifier: Classifier, model_dir: Path, cache: CacheSettings = NO_CACHE, **queue: Any
) -> tuple[Inference, HeldEngine]:
    inference = Inference(classifier, replace(PATIENT, **queue), cache)
    inference.start(model_dir, REFERENCE)
    held = HeldEngine(classifier.engine)
    inference.classifier = classifier.on(held)
    return inference, held


def in_loop(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(patience.SECONDS):
            await work()

    asyncio.run(bounded())


def test_requests_that_came_while_the_engine_was_busy_share_a_batch(
    classifier: Classifier[SingleLabelPrediction], model_dir: Path
) -> None:
    inference, engine = started(classifier, model_dir)
    texts = [tiny.review(number % 2, number) for number in range(9)]

    async def work() -> None:
        asked = [asyncio.create_task(inference.predict([texts[0]]))]
        await engine.is_busy()
        asked += [asyncio.create_task(inference.predict([text])) for text in texts[1:]]
        while inference.queued < 9:
            await asyncio.sleep(0.001)
        await inference.words("food")  # behind the others at the tokenizer
        await asyncio.sleep(0)
        engine.go.set()
        answers = [(await task)[0] for task in asked]
        for answer, expected in zip(answers, classifier.predict(texts), strict=True):
            assert isinstance(answer, SingleLabelPrediction)
            assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-6)

    in_loop(work)
    assert engine.batches[0] == 1
    assert len(engine.batches) < 9


def test_a_full_queue_turns_away_what_comes_next_and_says_when_to_try_again(
    classifier: Classifier, model_dir: Path
) -> None:
    inference, engine = started(classifier, model_dir, texts=3)

    async def work() -> None:
        first = asyncio.create_task(inference.predict(["good", "fine"]))
        await engine.is_busy()
        with pytest.raises(
            OverloadedError, match=r"2 texts wait already, of the 3 that may\. Try again"
        ) as no:
            await inference.predict(["one", "too many"])
        assert no.value.retry_after_s >= 1
        engine.go.set()
        assert len(await first) == 2
        assert len(await inference.predict(["now", "there", "is room"])) == 3

    in_loop(work)


def test_a_request_whose_time_runs_out_is_dropped(classifier: Classifier, model_dir: Path) -> None:
    inference, engine = started(classifier, model_dir)
    inference.tokens_per_second = math.inf  # nothing is known to come too late

    async def work() -> None:
        first = asyncio.create_task(inference.predict(["good"]))
        await engine.is_busy()
        with pytest.raises(OverloadedError, match=r"not ready within 0\.05 s"):
            await inference.predict(["late"], timeout_s=0.05)
        assert inference.queued == 1
        engine.go.set()
        await first

    in_loop(work)
    assert engine.batches == [1]


def test_a_request_that_cannot_be_answered_in_time_does_not_wait_for_it(
    classifier: Classifier, model_dir: Path
) -> None:
    inference, engine = started(classifier, model_dir)
    inference.tokens_per_second = 0.1

    async def work() -> None:
        first = asyncio.create_task(inference.predict(["good"]))
        await engine.is_busy()
        second = asyncio.create_task(inference.predict(["the food was great " * 5] * 4))
        while inference.queued < 5:
            await asyncio.sleep(0.001)
        await inference.words("food")  # behind the second at the tokenizer
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match=r"longer than the [\d.]+ s that are left"):
            await inference.predict(["the food was great " * 5] * 4, timeout_s=patience.SECONDS)
        engine.go.set()
        await asyncio.gather(first, second)

    in_loop(work)


def test_the_work_of_a_client_that_hung_up_is_not_done(classifier: Classifier, model_dir: Path) -> None:
    inference, engine = started(classifier, model_dir)

    async def work() -> None:
        first = asyncio.create_task(inference.predict(["good"]))
        await engine.is_busy()
        gone = asyncio.create_task(inference.predict(["never mind"] * 50))
        while inference.queued < 51:
            await asyncio.sleep(0.001)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert inference.queued == 1
        engine.go.set()
        await first
        assert len(await inference.predict(["the next"])) == 1

    in_loop(work)
    assert engine.batches == [1, 1]


def test_an_engine_that_fails_fails_the_batch_and_not_the_next(
    classifier: Classifier, model_dir: Path
) -> None:
    inference, engine = started(classifier, model_dir)

    async def work() -> None:
        engine.go.set()
        engine.error = NotImplementedError("a secret")
        with pytest.raises(InferenceError, match=r"^inference failed on 2 text\(s\)$") as failed:
            await inference.predict(["good", "bad"])
        assert isinstance(failed.value.__cause__, NotImplementedError)
        engine.error = None
        assert len(await inference.predict(["good"])) == 1

    in_loop(work)


def test_no_answer_is_kept_unless_that_is_asked_for(classifier: Classifier, model_dir: Path) -> None:
    inference, engine = started(classifier, model_dir, CacheSettings())
    engine.go.set()
    counted = REGISTRY.get_sample_value("miniml_cache_total", {"result": "miss"})

    async def work() -> None:
        assert await inference.predict(["good"]) == await inference.predict(["good"])

    in_loop(work)
    assert engine.batches == [1, 1]
    assert REGISTRY.get_sample_value("miniml_cache_total", {"result": "miss"}) == counted


def test_a_text_that_was_answered_lately_is_answered_from_the_cache(
    classifier: Classifier, model_dir: Path
) -> None:
    inference, engine = started(classifier, model_dir, CacheSettings(entries=2))
    engine.go.set()

    async def work() -> None:
        first = await inference.predict(["good", "bad"])
        again = await inference.predict(["bad", "good"])
        assert again == [first[1], first[0]]
        assert sum(engine.batches) == 2
        await inference.predict(["good", "new", "newer"])  # bounded: the oldest goes
        assert sum(engine.batches) == 4
        await inference.predict(["bad"])
        assert sum(engine.batches) == 5

    in_loop(work)
