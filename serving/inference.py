"""Runs inference in batches across requests, on the engine's own threads, so that the event loop stays free.

Requests of all protocols come through here.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from kserve.errors import InvalidInput

from miniml.errors import MinimlError
from miniml.model.classifier import Classifier, Probabilities, Span
from miniml.model.engines import REFERENCE, Logits, TorchEngine
from miniml.processor import default_threads, limit_torch, usable_processors
from miniml.task import Prediction

from . import engine_records, request_log
from .batch_queue import BatchQueue, QueuedRequest, QueuedText
from .cache import PredictionCache
from .engine_choice import AUTO, Choice, choose, choose_at_once, timed
from .health import Worker
from .limits import require_within
from .metrics import BATCH_TEXTS, BATCH_TOKENS, LABELS, MODEL, QUEUED, WAIT
from .output_adapters import OUTPUT_ADAPTERS
from .settings import CacheSettings, Limits, QueueSettings
from .tokenizer import TokenizerThread

# The tokens, with padding, in all forward passes at a time. Larger batches are no faster, and make later requests wait.
TOKEN_BUDGET = 2048
# The weight of the newest batch in the moving average of the engine's speed.
SPEED_SMOOTHING = 0.1
# A batch hangs when it takes so many times as long as it should; other programs and a container's quota slow it down.
HANG_FACTOR = 20
# The seconds without any text before each pass that measures an engine, so that no client waits beside more than one.
QUIET_S = 1.0

logger = logging.getLogger(__name__)


class _ServerEndedError(Exception):
    """The server ended while engines were measured."""


@contextmanager
def unnoticed_imports() -> Iterator[None]:
    """Keeps the collector, within the block, from looking through what is imported while no thread can answer.

    The interval at which threads take turns is the server's (`serving.server`), and is left as it is.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class InferenceError(MinimlError):
    """The model failed on valid texts; the cause says how."""


class OverloadedError(MinimlError):
    """The request cannot be answered in time.

    Args:
        reason: Why, as a sentence.
        retry_after_s: The seconds after which the client should try again.
    """

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(f"{reason} Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Inference:
    """Answers texts, those of many requests in one batch.

    Args:
        classifier: The model, on the reference engine.
        queue: How much may wait, and for how long.
        cache: How many answers to keep.
        limits: The size that a request may have.
    """

    def __init__(
        self,
        classifier: Classifier,
        queue: QueueSettings = QueueSettings(),
        cache: CacheSettings = CacheSettings(),
        limits: Limits = Limits(),
    ) -> None:
        self.labels = classifier.labels
        self.output_adapter = OUTPUT_ADAPTERS[classifier.head.task.output_adapter]
        self.digest = classifier.manifest.digest
        self.classifier = classifier
        self._queue_settings = queue
        self.limits = limits
        self._cache = PredictionCache(cache)
        self._batch_queue = BatchQueue(TOKEN_BUDGET)
        self.queued = 0
        self.tokens_per_second = float("inf")
        self.tokenizer = TokenizerThread(classifier)
        self._workers = [self.tokenizer.worker]
        self._streams = [classifier]
        self._threads = usable_processors(default_threads())
        self._failure = ""

    def start(self, model_dir: Path, engine: str = AUTO) -> Choice:
        """Chooses and warms the engine; from then on texts are answered.

        Where the choice of "auto" was a guess, the engines are measured while no text comes, on a thread that ends
        with the main thread. The fastest then takes over, and later starts begin with it.

        Args:
            model_dir: The model folder.
            engine: An engine's name, or "auto".

        Returns:
            The chosen engine, with the measurements.

        Raises:
            InputError: `engine` cannot be used; see `engine_choice.choose`.
        """
        reference = self.classifier
        chosen: Future[Choice] = Future()
        self._spawn(self._run, model_dir, engine, chosen)
        choice = chosen.result()
        if choice.is_guess:
            work = partial(self._measure_engines, reference, model_dir, choice)
            # No daemon: the interpreter's end would abort the process if a library's code ran then.
            threading.Thread(target=work, name="engine comparison").start()
        return choice

    async def predict(self, texts: Sequence[str], *, timeout_s: float | None = None) -> list[Prediction]:
        """Answers `texts` without blocking the event loop.

        Cancelling the call, as a disconnected client does, drops the texts that no batch has taken.

        Args:
            texts: The texts of one request.
            timeout_s: The seconds that the client has left, or None where it set no deadline.

        Returns:
            The predictions, in the order of the texts.

        Raises:
            InvalidInput: There are too many texts, one is too long, or one has no token.
            OverloadedError: The queue is full, or the answer would come too late.
            InferenceError: The model failed. Its message is fixed, because KServe's handlers send the message of some
                exceptions (torch's NotImplementedError is one) to the client.
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
        """Answers `texts` without checking the limits or counting labels, for texts that no client sent.

        Args:
            texts: The texts.
            timeout_s: The seconds that the client has left, or None where it set no deadline.

        Returns:
            Each text's probabilities, or its value, shape [width], in the order of the texts.

        Raises:
            InvalidInput: A text has no token.
            OverloadedError: The queue is full, or the answer would come too late.
            InferenceError: The model failed.
        """
        rows = [self._cache.get(text) for text in texts]
        unknown = {place: texts[place] for place, row in enumerate(rows) if row is None}
        if record := request_log.current_record.get():
            record.texts += len(texts)
            record.cached += len(texts) - len(unknown)
        if unknown:
            for place, row in zip(unknown, await self._ask(unknown, self._at_most(timeout_s)), strict=True):
                rows[place] = row
                self._cache.put(texts[place], row)
        return [row for row in rows if row is not None]

    @property
    def max_texts(self) -> int:
        """The number of texts that can be answered together."""
        return min(self.limits.texts, self._queue_settings.texts)

    @property
    def healthy(self) -> bool:
        """Whether all threads still work; the log says once what is wrong."""
        failure = next((worker.failure for worker in self._workers if worker.failure), "")
        if failure and failure != self._failure:
            logger.error("%s. Restart this server.", failure)
        self._failure = failure
        return not failure

    async def words(self, text: str) -> list[Span]:
        """Returns the words of `text` that the model reads; see `Classifier.words`."""
        return await self.tokenizer.words(text)

    @asynccontextmanager
    async def within(self, timeout_s: float | None) -> AsyncIterator[None]:
        """Surrounds work that has to end within `timeout_s`, or within the server's own limit if that is less.

        Raises:
            OverloadedError: The time was over.
        """
        seconds = self._at_most(timeout_s)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise self._late(seconds) from error

    def _at_most(self, timeout_s: float | None) -> float:
        return (
            self._queue_settings.timeout_s
            if timeout_s is None
            else max(0.0, min(self._queue_settings.timeout_s, timeout_s))
        )

    async def _ask(self, texts: Mapping[int, str], timeout_s: float) -> Probabilities:
        """Returns the rows of `texts`, whose keys are their places in the request."""
        deadline = time.monotonic() + timeout_s
        self._admit(len(texts))
        try:
            async with asyncio.timeout(timeout_s):
                self._require_in_time(self.tokenizer.seconds(texts.values()), deadline)
                request = await self._encoded(texts)
                self._require_in_time(self._seconds(request), deadline)
                self._batch_queue.add(request)
                try:
                    return await request.answer
                finally:
                    # Does nothing unless the request ends without an answer.
                    self._batch_queue.drop(request)
        except TimeoutError as error:
            raise self._late(timeout_s) from error
        except (InvalidInput, OverloadedError):
            raise
        except Exception as error:
            raise InferenceError(f"inference failed on {len(texts)} text(s)") from error
        finally:
            self._count(-len(texts))

    async def _encoded(self, texts: Mapping[int, str]) -> QueuedRequest:
        token_ids = await self.tokenizer.tokens(list(texts.values()))
        for place, ids in zip(texts, token_ids, strict=True):
            # Without tokens an engine fails, or answers with what another batch left behind.
            if not len(ids):
                raise InvalidInput(
                    f"text {place} is empty, or has nothing that this model reads. Send a text with a word in it."
                )
        answer = asyncio.get_running_loop().create_future()
        return QueuedRequest.of(token_ids, self.classifier.head.width, answer)

    def _admit(self, texts: int) -> None:
        if not self.healthy:
            raise self._overloaded("The model does not answer.")
        if self.queued + texts > self._queue_settings.texts:
            raise self._overloaded(
                f"{self.queued} texts wait already, of the {self._queue_settings.texts} that may."
            )
        self._count(texts)

    def _count(self, texts: int) -> None:
        self.queued += texts
        QUEUED.set(self.queued)

    def _seconds(self, request: QueuedRequest) -> float:
        """Estimates the seconds that the engine would take to answer `request` now."""
        return (self._batch_queue.tokens_before(request) + request.tokens) / self.tokens_per_second

    def _require_in_time(self, seconds: float, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        if seconds > remaining:
            raise self._overloaded(f"The answer would take longer than the {remaining:.1f} s that are left.")

    def _late(self, timeout_s: float) -> OverloadedError:
        return self._overloaded(f"The answer was not ready within {timeout_s:.3g} s.")

    def _overloaded(self, reason: str) -> OverloadedError:
        return OverloadedError(
            reason, max(1, math.ceil(self._batch_queue.pending_tokens / self.tokens_per_second))
        )

    def _spawn(self, work: Callable[..., None], *more: Any) -> None:
        """Runs `work` on a watched thread, with the thread's `Worker` as its first argument."""
        worker = Worker("the engine")
        worker.thread = threading.Thread(target=work, args=(worker, *more), name="engine", daemon=True)
        worker.thread.start()
        self._workers.append(worker)

    def _run(self, worker: Worker, model_dir: Path, engine: str, chosen: Future[Choice]) -> None:
        """Chooses the engine and runs batches on it; the engine's first thread."""
        try:
            limit_torch(self._threads)
            choice = (
                choose_at_once(self.classifier, model_dir, self._threads)
                if engine == AUTO
                else choose(self.classifier, model_dir, engine, self._threads)
            )
            self.tokens_per_second = choice.tokens_per_second
            self._use(choice)
            chosen.set_result(choice)
        except BaseException as error:
            # `start` raises it.
            chosen.set_exception(error)
            return
        self._work(worker, 0)

    def _use(self, choice: Choice) -> None:
        """Has the next batches run on the chosen engines, and as many at a time as they have streams."""
        self._batch_queue.max_running = len(choice.streams)
        self._batch_queue.token_budget = TOKEN_BUDGET // len(choice.streams)
        if not choice.pads:
            self._batch_queue.max_padding = 0
        self.classifier, self._streams = choice.classifier, choice.streams
        MODEL.info({"digest": self.digest, "engine": choice.classifier.engine.name})
        # The tokenizer's is one of the workers, and the calling thread, or the one that it replaces, is another.
        for number in range(len(self._workers) - 1, len(choice.streams)):
            self._spawn(self._work, number)

    def _work(self, worker: Worker, number: int) -> None:
        """Runs batches for ever: one that is alone with all threads, and others with the stream's threads.

        The number of OpenMP's threads is set here because OpenMP keeps it for each calling thread.
        """
        limit_torch(self._threads)
        while True:
            batch = self._batch_queue.take()
            # There may be fewer streams than workers, but no more batches run than there are streams.
            stream = self._streams[number % len(self._streams)]
            self._run_batch(worker, batch, self.classifier if self._batch_queue.runs_alone else stream)
            self._batch_queue.done()

    def _measure_engines(self, reference: Classifier, model_dir: Path, guess: Choice) -> None:
        """Measures all engines, uses the fastest, and keeps the record of it."""
        # The ports open meanwhile.
        time.sleep(QUIET_S)
        try:
            self._load_in_quiet(reference)
            limit_torch(self._threads)
            choice = choose(reference, model_dir, AUTO, self._threads, self._timed_in_quiet, QUIET_S)
        except _ServerEndedError:
            return
        except Exception:
            logger.exception("the engines could not be measured; the one that answers goes on")
            return
        logger.info(
            "measured, in ms, and the largest difference from %s:\n%s", REFERENCE, choice.measurements
        )
        engine_records.write(choice.circumstances, choice.engines)
        if choice.engines != guess.engines:
            self._use(choice)

    def _load_in_quiet(self, reference: Classifier) -> None:
        """Loads the reference's model, unless it is in memory, when no text has come for a while."""
        assert isinstance(reference.engine, TorchEngine)
        if reference.engine.is_loaded:
            return
        for load in (partial(import_module, "torch"), lambda: reference.engine.model):
            self._wait_until_quiet()
            with unnoticed_imports():
                load()

    def _wait_until_quiet(self) -> int:
        """Waits until no text has come for a while, and returns the number of batches until then.

        Raises:
            _ServerEndedError: The server ended.
        """
        while threading.main_thread().is_alive():
            time.sleep(max(0.0, QUIET_S - self._batch_queue.idle_s))
            batches = self._batch_queue.taken_batches
            if self._batch_queue.idle_s >= QUIET_S:
                return batches
        raise _ServerEndedError

    def _timed_in_quiet(self, run: Callable[[], Logits]) -> tuple[Logits, float]:
        """Runs one pass of an engine when no text has come for a while, and again where one came meanwhile."""
        while True:
            before = self._wait_until_quiet()
            logits, seconds = timed(run)
            if self._batch_queue.taken_batches == before:
                return logits, seconds

    def _run_batch(self, worker: Worker, batch: list[QueuedText], classifier: Classifier) -> None:
        began = time.monotonic()
        try:
            with worker.working(HANG_FACTOR * _padded_tokens(batch) / self.tokens_per_second):
                rows = _answers(classifier, batch)
        except Exception as error:
            # The error is the requests', and the thread goes on.
            requests = _by_request(batch)
            if len(requests) == 1:
                _call_on_loops(batch, partial(_fail, batch, error))
                return
            # One of them may be to blame, and should not fail the others.
            logger.warning(
                "%s in a batch of %d requests; now one by one", type(error).__name__, len(requests)
            )
            for texts in requests:
                self._run_batch(worker, texts, classifier)
            return
        self._measure(batch, began)
        _call_on_loops(batch, partial(_deliver, batch, rows))

    def _measure(self, batch: list[QueuedText], began: float) -> None:
        tokens = sum(len(text.token_ids) for text in batch)
        # Batches that run at the same time are about as fast.
        speed = self._batch_queue.running_batches * tokens / max(time.monotonic() - began, 1e-6)
        self.tokens_per_second += SPEED_SMOOTHING * (speed - self.tokens_per_second)
        BATCH_TEXTS.observe(len(batch))
        BATCH_TOKENS.observe(_padded_tokens(batch))
        for text in batch:
            WAIT.observe(began - text.queued)


def _by_request(batch: Sequence[QueuedText]) -> list[list[QueuedText]]:
    parts: dict[QueuedRequest, list[QueuedText]] = {}
    for text in batch:
        parts.setdefault(text.request, []).append(text)
    return list(parts.values())


def _padded_tokens(batch: Sequence[QueuedText]) -> int:
    return len(batch) * max(len(text.token_ids) for text in batch)


def _answers(classifier: Classifier, batch: Sequence[QueuedText]) -> Probabilities:
    rows = classifier.run([text.token_ids for text in batch])
    if rows.shape != (len(batch), classifier.head.width):
        raise InferenceError(f"the engine answered {len(batch)} text(s) with an array of shape {rows.shape}")
    return rows


def _call_on_loops(batch: Sequence[QueuedText], outcome: Callable[[], None]) -> None:
    """Calls `outcome` on the event loops of the batch's requests."""
    for loop in {text.request.answer.get_loop() for text in batch}:
        # A closed loop raises; nobody waits there.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(outcome)


def _fail(batch: Sequence[QueuedText], error: Exception) -> None:
    for text in batch:
        text.request.fail(error)


def _deliver(batch: Sequence[QueuedText], rows: Probabilities) -> None:
    for text, row in zip(batch, rows, strict=True):
        if np.isfinite(row).all():
            text.request.put(text.place, row)
        else:
            text.request.fail(InferenceError("the engine answered a text with what is no number"))
