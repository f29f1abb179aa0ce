"""Load on one server: closed loop (clients that wait for their answer) and open loop (arrivals that do not)."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

TIMEOUT_S = 60.0


@dataclass
class LoadResult:
    """Counts the answers to one load, and their latencies."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """The latencies of answers with status 200, in seconds."""
    refused: int = 0
    """Answers with status 503."""
    failed: int = 0
    """Everything else."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        """Returns a percentile of the latencies, in milliseconds; nan if there are none."""
        return float(np.percentile(self.latencies, percent)) * 1_000 if self.latencies else float("nan")


class Load:
    """Sends `texts` in turn, from the first again after the last."""

    def __init__(self, url: str, body: Callable[[str], Any], texts: Sequence[str]) -> None:
        self.url = url
        self._body = body
        self._texts = itertools.cycle(texts)

    async def closed(self, clients: int, seconds: float) -> LoadResult:
        """`clients` that each send their next text when the one before is answered, for `seconds`."""
        result = LoadResult()
        began = time.perf_counter()

        async def client(session: aiohttp.ClientSession) -> None:
            while time.perf_counter() < began + seconds:
                await self._ask(session, result, time.perf_counter())

        async with _session() as session:
            await asyncio.gather(*(client(session) for _ in range(clients)))
        result.seconds = time.perf_counter() - began
        return result

    async def open(self, rate: float, seconds: float, seed: int = 0) -> LoadResult:
        """Arrivals at `rate` a second, independent of each other and of the answers (Poisson).

        A latency counts from the moment that the request was due: a server that falls behind cannot hide it by
        slowing its clients down.
        """
        draw, result = random.Random(seed), LoadResult()
        began = due = time.perf_counter()
        asked = []
        async with _session() as session:
            while due < began + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                asked.append(asyncio.create_task(self._ask(session, result, due)))
                due += draw.expovariate(rate)
            await asyncio.gather(*asked)
        result.seconds = time.perf_counter() - began
        return result

    async def _ask(self, session: aiohttp.ClientSession, result: LoadResult, since: float) -> None:
        try:
            async with session.post(self.url, json=self._body(next(self._texts))) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        if status == 200:
            result.latencies.append(time.perf_counter() - since)
        elif status == 503:
            result.refused += 1
        else:
            result.failed += 1


async def probe(url: str, seconds: float, every: float = 0.05) -> list[float]:
    """The latencies, in seconds, of one GET after the other, as a kubelet probes; infinite where it failed."""
    latencies = []
    end = time.perf_counter() + seconds
    async with _session() as session:
        while time.perf_counter() < end:
            began = time.perf_counter()
            try:
                async with session.get(url) as answer:
                    await answer.read()
                    answered = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                answered = False
            latencies.append(time.perf_counter() - began if answered else math.inf)
            await asyncio.sleep(every)
    return latencies


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
    )
