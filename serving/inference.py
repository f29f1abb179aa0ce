"""Inference on a thread of its own, so that the event loop stays free to answer probes and other clients.

Every request of every protocol comes through here: what batches them together belongs here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from miniml.classifier import Classifier, Prediction
from miniml.errors import MinimlError

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class InferenceError(MinimlError):
    """The model failed on texts that it should have answered; the cause says how."""


class OverloadedError(MinimlError):
    """The request cannot be answered in time: too much waits before it."""

    def __init__(self, reason: str, retry_after_s: int) -> None:
        super().__init__(f"{reason} Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Inference:
    """Answers texts one call at a time, in the order of the calls."""

    def __init__(self, classifier: Classifier) -> None:
        self.labels = classifier.labels
        self._classifier = classifier
        # A single thread: torch spreads one call over all processors already, and two at once would
        # only fight for them. The number of threads is set there because OpenMP keeps it per thread.
        self._thread = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="inference",
            initializer=torch.set_num_threads,
            initargs=(usable_processors(torch.get_num_threads()),),
        )

    async def predict(self, texts: Sequence[str], *, timeout_s: float | None = None) -> list[Prediction]:
        """Answers `texts`, in their order, without blocking the event loop.

        Cancelling the call (its client hung up) drops what has not begun. `timeout_s` is the time that the
        client has left for the answer.

        Raises:
            OverloadedError: the queue is full, or the answer would come too late.
            InferenceError: whatever the model raised. A fixed text, because KServe's own handlers put the
                text of some exceptions (torch's NotImplementedError is one) into the client's answer.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._classifier.predict, texts)
        except Exception as error:
            raise InferenceError(f"inference failed on {len(texts)} text(s)") from error


def usable_processors(processors: int, cpu_quota: Path = CPU_QUOTA) -> int:
    """`processors`, or as many as the container's quota (cgroup v2) pays for, where that is less.

    A container sees all processors of its node. Threads beyond the quota use it up by waiting for one
    another, and then all of them are paused until the next period.
    """
    try:
        quota, period = cpu_quota.read_text().split()
    except OSError:
        return processors
    if quota == "max":
        return processors
    return max(1, min(processors, int(quota) // int(period)))
