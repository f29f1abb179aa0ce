"""Runs the classifier beside the event loop, never on it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from miniml.classifier import Classifier, Prediction


class InferenceThread:
    """The one thread that computes: health checks and new requests are answered while it is busy.

    One, because torch itself spreads a batch over the processors; two batches at a time would only fight for
    them. It is also where batching across requests will live.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")

    async def predict(self, texts: list[str]) -> list[Prediction]:
        """The classifier's answers to `texts`, in their order."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._classifier.predict, texts)


def use_processors_of_the_container() -> int:
    """Gives torch as many threads as the container has processors, and says how many.

    torch counts the node's processors; threads above the container's quota are throttled, all of them at once.
    """
    quota = _processor_quota(Path("/sys/fs/cgroup/cpu.max"))
    threads = min(len(os.sched_getaffinity(0)), quota or os.cpu_count() or 1)
    torch.set_num_threads(threads)
    return threads


def _processor_quota(cpu_max: Path) -> int | None:
    """Whole processors that cgroup v2 allows, or None where it sets no limit."""
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
