"""Batches across requests, on threads of the engine's own: the event loop stays free for probes and clients.

Every request of every protocol comes through here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kserve.errors import InvalidInput

from miniml.errors import MinimlError
from miniml.model.classifier import Classifier, Probabilities, Span
from miniml.processor import usable_processors
from serving import observation
from serving.cache import PredictionCache
from serving.encoding import Encoding
from serving.engine_choice import AUTO, Choice, choose
from serving.forms import FORMS
from serving.health import Worker
from serving.limits import require_within
from serving.metrics import BATCH_TEXTS, BATCH_TOKENS, LABELS, MODEL, QUEUED, WAIT
from serving.settings import CacheSettings, Limits, QueueSettings
from serving.waiting import Request, Text, Waiting

# Padded tokens in all forward passes at a time: as fast as larger batches, and what comes meanwhile waits less.
TOKENS_AT_A_TIME = 2048
# How much the newest batch tells of the engine's speed, against all those before.
WEIGHT_OF_THE_NEWEST = 0.1
# As many times what a batch should take, it may: other programs and a container's quota slow it down.
SLOWER = 20

logger = logging.getLogger(__name__)


class InferenceError(MinimlError):
    """The model failed on texts that it should have answered; the cause says how."""


class OverloadedError(MinimlError):
    """The request cannot be answered in time: too much waits before it."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(f"{reason} Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Inference:
    """Answers texts, many requests in one batch."""

    def __init__(
        self,
        classifier: Classifier,
        queue: QueueSettings = QueueSettings(),
        cache: CacheSettings = CacheSettings(),
        limits: Limits = Limits(),
    ) -> None:
        self.labels = classifier.labels
        self.form = FORMS[classifier.head.task.output_adapter]
        self.digest = classifier.manifest.digest
        self.classifier = classifier
        self._queue = queue
        self.limits = limits
        self._cache = PredictionCache(cache)
        self._waiting = Waiting(TOKENS_AT_A_TIME)
        self.queued = 0
        self.tokens_per_second = float("inf")
        self.encoding = Encoding(classifier)
        self._workers = [self.encoding.worker]
        self._trouble = ""

    def start(self, model_dir: Path, engine: str = AUTO) -> Choice:
        """Chooses the engine and warms it; texts are answered from then on.

        Raises:
            InputError: `engine` cannot be used; see `engine_choice.choose`.
        """
        chosen: Future[Choice] = Future()
        self._spawn(self._run, model_dir, engine, chosen)
        choice = chosen.result()
        MODEL.info({"digest": self.digest, "engine": choice.classifier.engine.name})
        return choice

    async def predict(self, texts: Sequence[str], *, timeout_s: float | None = None) -> list[Any]:
        """Answers `texts`, in their order, without blocking the event loop.

        Cancelling the call (its client hung up) drops what has not begun. `timeout_s` is the time that the
        client has left for the answer.

        Raises:
            InvalidInput: more, or longer, texts than a request may have, or one that has no token.
            OverloadedError: the queue is full, or the answer would come too late.
            InferenceError: whatever the model raised. A fixed text, because KServe's own handlers put the
                text of some exceptions (torch's NotImplementedError is one) into the client's answer.
        """
        require_within(self.limits, texts)
        rows = await self.probabilities(texts, timeout_s=timeout_s)
        predictions = [self.classifier.prediction(row) for row in rows]
        for prediction in predictions:
            for label in prediction.given:
                LABELS.labels(label).inc()
        return predictions

    async def probabilities(
        self, texts: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Probabilities]:
        """Each text's probabilities, or number, shape [width], for texts that nobody sent: without limits or count.

        Raises:
            InvalidInput: a text has no token.
            OverloadedError: as `predict` does.
            InferenceError: likewise.
        """
        rows = [self._cache.get(text) for text in texts]
        unknown = {place: texts[place] for place, row in enumerate(rows) if row is None}
        if record := observation.current.get():
            record.texts += len(texts)
            record.cached += len(texts) - len(unknown)
        if unknown:
            for place, row in zip(unknown, await self._ask(unknown, self._at_most(timeout_s)), strict=True):
                rows[place] = row
                self._cache.put(texts[place], row)
        return [row for row in rows if row is not None]

    @property
    def most_texts(self) -> int:
        """That can be answered together."""
        return min(self.limits.texts, self._queue.texts)

    @property
    def healthy(self) -> bool:
        """Whether every thread that answers still does; the log says once what is wrong."""
        trouble = next((worker.trouble for worker in self._workers if worker.trouble), "")
        if trouble and trouble != self._trouble:
            logger.error("%s. This server should be started anew.", trouble)
        self._trouble = trouble
        return not trouble

    async def words(self, text: str) -> list[Span]:
        """The words of `text` that the model reads; see `Classifier.words`."""
        return await self.encoding.words(text)

    @asynccontextmanager
    async def within(self, timeout_s: float | None) -> AsyncIterator[None]:
        """Ends what is done in it after `timeout_s`, or the server's own time if that is less.

        Raises:
            OverloadedError: the time was over.
        """
        seconds = self._at_most(timeout_s)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise self._late(seconds) from error

    def _at_most(self, timeout_s: float | None) -> float:
        return self._queue.timeout_s if timeout_s is None else max(0.0, min(self._queue.timeout_s, timeout_s))

    async def _ask(self, texts: Mapping[int, str], timeout_s: float) -> Probabilities:
        """The rows of `texts`, which have their places in the request."""
        deadline = time.monotonic() + timeout_s
        self._admit(len(texts))
        try:
            async with asyncio.timeout(timeout_s):
                self._require_in_time(self.encoding.seconds(texts.values()), deadline)
                request = await self._encoded(texts)
                self._require_in_time(self._seconds(request), deadline)
                self._waiting.add(request)
                try:
                    return await request.answer
                finally:
                    self._waiting.drop(request)  # what is left of it where it ends without an answer
        except TimeoutError as error:
            raise self._late(timeout_s) from error
        except (InvalidInput, OverloadedError):
            raise
        except Exception as error:
            raise InferenceError(f"inference failed on {len(texts)} text(s)") from error
        finally:
            self._count(-len(texts))

    async def _encoded(self, texts: Mapping[int, str]) -> Request:
        token_ids = await self.encoding.tokens(list(texts.values()))
        for place, ids in zip(texts, token_ids, strict=True):
            # An engine that is given nothing fails, or answers with what it still holds of another batch.
            if not len(ids):
                raise InvalidInput(
                    f"text {place} is empty, or has nothing that this model reads. Send a text with a word in it."
                )
        answer = asyncio.get_running_loop().create_future()
        return Request.of(token_ids, self.classifier.head.width, answer)

    def _admit(self, texts: int) -> None:
        if not self.healthy:
            raise self._overloaded("The model does not answer.")
        if self.queued + texts > self._queue.texts:
            raise self._overloaded(f"{self.queued} texts wait already, of the {self._queue.texts} that may.")
        self._count(texts)

    def _count(self, texts: int) -> None:
        self.queued += texts
        QUEUED.set(self.queued)

    def _seconds(self, request: Request) -> float:
        """How long the engine would take to answer `request` now."""
        return (self._waiting.tokens_before(request) + request.tokens) / self.tokens_per_second

    def _require_in_time(self, seconds: float, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        if seconds > remaining:
            raise self._overloaded(f"The answer would take longer than the {remaining:.1f} s that are left.")

    def _late(self, timeout_s: float) -> OverloadedError:
        return self._overloaded(f"The answer was not ready within {timeout_s:.3g} s.")

    def _overloaded(self, reason: str) -> OverloadedError:
        return OverloadedError(reason, max(1, math.ceil(self._waiting.tokens / self.tokens_per_second)))

    def _spawn(self, work: Callable[..., None], *more: Any) -> None:
        """Runs `work` on a thread that is watched; it gets its `Worker` first."""
        worker = Worker("the engine")
        worker.thread = threading.Thread(target=work, args=(worker, *more), name="engine", daemon=True)
        worker.thread.start()
        self._workers.append(worker)

    def _run(self, worker: Worker, model_dir: Path, engine: str, chosen: Future[Choice]) -> None:
        """The engine's thread. Its number of threads is set here because OpenMP keeps it by thread."""
        try:
            threads = usable_processors(torch.get_num_threads())
            torch.set_num_threads(threads)
            choice = choose(self.classifier, model_dir, engine, threads)
            self.classifier, self.tokens_per_second = choice.classifier, choice.tokens_per_second
            self._waiting.budget = TOKENS_AT_A_TIME // len(choice.lanes)
            if not choice.pads:
                self._waiting.padding = 0
            chosen.set_result(choice)
        except BaseException as error:  # it is start's to raise
            chosen.set_exception(error)
            return
        for lane in choice.lanes[1:]:
            self._spawn(self._work, lane)
        self._work(worker, choice.lanes[0])

    def _work(self, worker: Worker, lane: Classifier) -> None:
        """Runs batches: on all threads one that is alone, and else on the lane's."""
        while True:
            batch = self._waiting.take()
            self._run_batch(worker, batch, self.classifier if self._waiting.all_taken else lane)
            self._waiting.done()

    def _run_batch(self, worker: Worker, batch: list[Text], classifier: Classifier) -> None:
        began = time.monotonic()
        try:
            with worker.at(SLOWER * _padded_tokens(batch) / self.tokens_per_second):
                rows = _answers(classifier, batch)
        except Exception as error:  # it belongs to the requests, and the thread goes on
            requests = _by_request(batch)
            if len(requests) == 1:
                _tell(batch, partial(_fail, batch, error))
                return
            # One of them may be to blame, and the others are not to share it.
            logger.warning(
                "%s in a batch of %d requests; now one by one", type(error).__name__, len(requests)
            )
            for texts in requests:
                self._run_batch(worker, texts, classifier)
            return
        self._measure(batch, began)
        _tell(batch, partial(_deliver, batch, rows))

    def _measure(self, batch: list[Text], began: float) -> None:
        tokens = sum(len(text.token_ids) for text in batch)
        # What runs beside it is about as fast.
        speed = self._waiting.running * tokens / max(time.monotonic() - began, 1e-6)
        self.tokens_per_second += WEIGHT_OF_THE_NEWEST * (speed - self.tokens_per_second)
        BATCH_TEXTS.observe(len(batch))
        BATCH_TOKENS.observe(_padded_tokens(batch))
        for text in batch:
            WAIT.observe(began - text.queued)


def _by_request(batch: Sequence[Text]) -> list[list[Text]]:
    parts: dict[Request, list[Text]] = {}
    for text in batch:
        parts.setdefault(text.request, []).append(text)
    return list(parts.values())


def _padded_tokens(batch: Sequence[Text]) -> int:
    return len(batch) * max(len(text.token_ids) for text in batch)


def _answers(classifier: Classifier, batch: Sequence[Text]) -> Probabilities:
    rows = classifier.run([text.token_ids for text in batch])
    if rows.shape != (len(batch), classifier.head.width):
        raise InferenceError(f"the engine answered {len(batch)} text(s) with an array of shape {rows.shape}")
    return rows


def _tell(batch: Sequence[Text], outcome: Callable[[], None]) -> None:
    """Has the event loop that the batch came from hand the outcome to its requests."""
    for loop in {text.request.answer.get_loop() for text in batch}:
        with suppress(RuntimeError):  # it is closed, and nobody waits there
            loop.call_soon_threadsafe(outcome)


def _fail(batch: Sequence[Text], error: Exception) -> None:
    for text in batch:
        text.request.fail(error)


def _deliver(batch: Sequence[Text], rows: Probabilities) -> None:
    for text, row in zip(batch, rows, strict=True):
        if np.isfinite(row).all():
            text.request.put(text.place, row)
        else:
            text.request.fail(InferenceError("the engine answered a text with what is no number"))
