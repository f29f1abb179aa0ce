"""`make bench-serve`: requests a second and latencies of miniml and its peers, over one model and the same texts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urljoin

import numpy as np
import psutil
import requests
import torch

from benchmarks import results
from benchmarks.ceiling import Ceiling
from benchmarks.film_reviews import reviews_of
from benchmarks.load import Load, LoadResult, probe
from benchmarks.machine import described, kind
from benchmarks.page import slug, write_page
from miniml.compression.layers import keep_layers, number_of_layers, spread
from miniml.errors import InputError
from miniml.model import calibration
from miniml.model.classifier import Classifier
from miniml.processor import usable_processors

CLIENTS = (1, 4, 16, 64)
# Of what the naive API reaches with 16 clients: below its limit, and twice above it.
OPEN_LOADS = (0.8, 2.0)
NAME = "peer"
OURS = ("-m", "serving")
SECONDS_TO_START = 120
STARTS = 3
WARMING_S = 1.0
# miniml leaves a second between the passes by which it measures an engine.
IDLE_S = 3.0
ATTEMPTS_TO_BE_IDLE = 20
# Of one processor, what servers without requests may take: some look every now and then whether there is work.
IDLE_SHARE = 0.1
GOLDEN_RATIO = (1 + math.sqrt(5)) / 2


@dataclass(frozen=True)
class Server:
    """One way to serve the model."""

    key: str
    title: str
    program: tuple[str, ...]
    path: str
    body: Callable[[str], Any]
    probabilities: Callable[[Any], list[float]]
    """Of an answer, in the model's order."""

    @property
    def is_ours(self) -> bool:
        """Whether it is miniml."""
        return self.program == OURS


def ours(key: str, title: str) -> Server:
    """Returns miniml's own server."""
    return Server(
        key,
        title,
        OURS,
        f"/v1/models/{NAME}:predict",
        _instances,
        lambda answer: list(answer["predictions"][0]["probabilities"].values()),
    )


def _text(text: str) -> Any:
    return {"text": text}


def _instances(text: str) -> Any:
    return {"instances": [text]}


def servers(labels: tuple[str, ...]) -> list[Server]:
    """The peers and ours, in the order in which they are measured."""

    def of_pipeline(answer: Any) -> list[float]:
        scores = {entry["label"]: entry["score"] for entry in answer}
        return [scores[label] for label in labels]

    return [
        Server("a", "naive API", ("-m", "benchmarks.peers.naive"), "/predict", _text, of_pipeline),
        Server(
            "b",
            "inline KServe predictor",
            ("-m", "benchmarks.peers.inline"),
            f"/v1/models/{NAME}:predict",
            _instances,
            lambda answer: list(answer["predictions"][0]),
        ),
        Server(
            "c",
            "LitServe, batching",
            ("-m", "benchmarks.peers.litserve"),
            "/predict",
            _text,
            lambda answer: list(answer["probabilities"]),
        ),
        ours("d", "miniml"),
    ]


@dataclass
class Point:
    """One server under one load."""

    server: str
    loop: str
    load: float
    """Clients in the closed loop, requests a second in the open one."""
    rate: float
    p50: float
    p95: float
    p99: float
    refused: int
    failed: int

    @classmethod
    def of(cls, server: str, loop: str, load: float, load_result: LoadResult) -> Point:
        p50, p95, p99 = (load_result.percentile(percent) for percent in (50, 95, 99))
        return cls(
            server, loop, load, load_result.rate, p50, p95, p99, load_result.refused, load_result.failed
        )


def main() -> int:
    """Measures, and writes the page; 1 where it cannot begin."""
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model-dir", type=Path, default=Path("local_outputs/latest/model"))
    parser.add_argument(
        "--smaller", type=Path, help="a smaller model's folder; by default, half of the layers"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load in a round")
    parser.add_argument("--rounds", type=int, default=3, help="over all servers; the page has the medians")
    parser.add_argument("--texts", type=int, default=1_000, help="reviews to send, and to compare answers on")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure; the rest stays"
    )
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    options = parser.parse_args()
    # As an exception, so that the servers end with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    name = f"serving-{slug(kind())}"
    result = results.last(name) if results.there(name) else {}
    try:
        for part in [] if options.render_only else options.parts:
            result |= PARTS[part](options)
            results.keep(name, result)
        write_page(complete(result))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def complete(result: dict[str, Any]) -> dict[str, Any]:
    """Returns a result that has the part that no page can do without.

    Raises:
        InputError: No load has been measured on this kind of processor.
    """
    if "points" not in result:
        raise InputError(
            "no load has been measured on this kind of processor. Measure with --parts load too."
        )
    return result


def measure_starts(options: argparse.Namespace) -> dict[str, Any]:
    """Starts miniml several times, with nothing else running."""
    model_dir, threads = _begin(options)
    starts = []
    for _ in range(STARTS):
        with running(ours("d", "miniml"), model_dir, threads) as (_, started):
            starts.append(started)
            _say(f"ready after {started:.1f} s")
    return {"starts": starts}


def measure_answers(options: argparse.Namespace) -> dict[str, Any]:
    """Compares every server's answers with plain transformers'."""
    model_dir, threads = _begin(options)
    texts = reviews(options.texts)
    classifier = Classifier.load(model_dir)
    _say("plain transformers, one text at a time, for comparison")
    logits = reference(model_dir, texts)
    found = {}
    for server in servers(classifier.labels):
        with running(server, model_dir, threads) as (url, _):
            # Of the servers, ours alone knows of the folder's temperature.
            temperature = classifier.temperature if server.is_ours else 1.0
            found[server.key] = agreement(server, url, texts, calibration.softmax(logits / temperature))
            _say(f"{server.title:<24} {found[server.key]['labels']:.1%} of the labels agree")
    return {"agreement": found, "compared": len(texts)}


def measure_load(options: argparse.Namespace) -> dict[str, Any]:
    """Loads all servers in turn, each of them running from the first round to the last.

    The machine is faster in one minute than in another. So a round is short, and ratios are of one round.
    """
    model_dir, threads = _begin(options)
    classifier = Classifier.load(model_dir)
    texts = reviews(options.texts)
    lengths = [len(ids) for ids in classifier.encode(texts)]
    texts = evenly_mixed(texts, lengths)
    ceiling = Ceiling(model_dir, texts, threads)
    # The load comes from this process: it is not to look through all of torch at every collection.
    gc.freeze()
    liveness = [0.0]
    with TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        smaller = options.smaller or half_of(model_dir, Path(scratch) / "smaller")
        loads = {}
        for server in [*servers(classifier.labels), ours("f", "miniml, smaller")]:
            folder = smaller if server.key == "f" else model_dir
            url, _ = stack.enter_context(running(server, folder, threads))
            loads[server] = Load(url + server.path, server.body, texts)
            asyncio.run(loads[server].closed(clients=8, seconds=WARMING_S))
        _wait_until_idle()
        points = _closed_rounds(loads, ceiling, options, liveness)
        points += _open_loads(loads, points, options.seconds)
        layers = {"layers": number_of_layers(smaller), "of": number_of_layers(model_dir)}
    words = f"--seconds {options.seconds:g} --rounds {options.rounds} --texts {options.texts}"
    return {
        "machine": machine_facts(threads),
        "command": f"make bench-serve ARGS='{words}'",
        "texts": {"count": len(texts), "mean_tokens": float(np.mean(lengths)), "longest": max(lengths)},
        "rounds": options.rounds,
        "points": [asdict(point) for point in points],
        "liveness_ms": max(liveness) * 1_000,
        "ceiling": ceiling.result(),
        "smaller": {**layers, "given": options.smaller is not None},
    }


def _closed_rounds(
    loads: dict[Server, Load], ceiling: Ceiling, options: argparse.Namespace, liveness: list[float]
) -> list[Point]:
    """Loads the servers with all numbers of clients, round after round.

    Args:
        loads: Each server's load.
        ceiling: Is measured once a round.
        options: Of the command line.
        liveness: Is extended by the seconds that miniml's liveness took at most, under the most clients.
    """
    points = []
    for _, clients in itertools.product(range(options.rounds), CLIENTS):
        if clients == max(CLIENTS):
            ceiling.measure(options.seconds)
            _say(f"{'ceiling':<41} {ceiling.rates[-1]:6.1f}/s")
        for server, load in loads.items():
            work = load.closed(clients, options.seconds)
            if server.key == "d" and clients == max(CLIENTS):
                work = _probed(work, load.url, options.seconds, liveness)
            points.append(_noted(Point.of(server.key, "closed", clients, asyncio.run(work)), server))
    return points


def _open_loads(loads: dict[Server, Load], closed: list[Point], seconds: float) -> list[Point]:
    """Sends the servers requests at rates below and above what the naive API answers."""
    naive_rate = median(point.rate for point in closed if (point.server, point.load) == ("a", 16))
    points = []
    for share, (server, load) in itertools.product(OPEN_LOADS, loads.items()):
        found = asyncio.run(load.open(naive_rate * share, seconds))
        points.append(_noted(Point.of(server.key, "open", naive_rate * share, found), server))
    return points


PARTS = {"start": measure_starts, "answers": measure_answers, "load": measure_load}
"""What can be measured by itself; on a machine of two cores each takes at most five minutes."""


def half_of(model_dir: Path, folder: Path) -> Path:
    """Writes the model with half of its layers: its speed is a distilled one's, and its answers are worth nothing."""
    layers = number_of_layers(model_dir)
    keep_layers(model_dir, spread(layers, max(1, layers // 2)), folder)
    return folder


def evenly_mixed(texts: list[str], lengths: list[int]) -> list[str]:
    """Orders texts so that any stretch of them is as long in the mean as all of them.

    Without it, a slow server's few texts might happen to be the long ones. Multiples of the golden ratio, without
    their whole parts, are spread evenly from the first on.
    """
    by_length = np.argsort(lengths)
    spread_evenly = np.argsort(np.argsort(np.arange(len(texts)) * GOLDEN_RATIO % 1))
    return [texts[place] for place in by_length[spread_evenly]]


def _begin(options: argparse.Namespace) -> tuple[Path, int]:
    """Returns the model folder and the number of threads, which torch uses from now on."""
    for folder in filter(None, (options.model_dir, options.smaller)):
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{folder} holds no model. Run `make run` first, or give another --model-dir or --smaller."
            )
    threads = usable_processors(torch.get_num_threads())
    torch.set_num_threads(threads)
    return options.model_dir, threads


def reviews(count: int) -> list[str]:
    """Real film reviews, the same for every run."""
    texts = [text for text, _ in reviews_of("imdb")]
    return random.Random(0).sample(texts, count)


def reference(model_dir: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """The logits of the plain transformers pipeline in fp32, shape [texts, labels]."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(model_dir), device="cpu", top_k=None)
    config: Any = classify.model.config
    order = [config.id2label[index] for index in range(config.num_labels)]
    rows = []
    for text in texts:
        answer: Any = classify([text], truncation=True, function_to_apply="none")[0]
        scores = {entry["label"]: entry["score"] for entry in answer}
        rows.append([scores[label] for label in order])
    return np.array(rows)


def agreement(server: Server, url: str, texts: list[str], expected: np.ndarray[Any, Any]) -> dict[str, float]:
    """How the answers compare with plain transformers."""
    with requests.Session() as session:
        found = np.array(
            [
                server.probabilities(
                    session.post(url + server.path, json=server.body(text), timeout=60).json()
                )
                for text in texts
            ]
        )
    return {
        "labels": float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        "largest": float(np.abs(found - expected).max()),
    }


@contextlib.contextmanager
def running(server: Server, model_dir: Path, threads: int) -> Iterator[tuple[str, float]]:
    """The server at its address, and the seconds from its process's start until it was ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, *server.program]
    if server.is_ours:
        words += [f"--model-dir={model_dir}", f"--model-name={NAME}", f"--http-port={port}"]
        words += ["--cache-entries=0", "--no-access-log", "--enable-grpc=false"]
    else:
        words += [str(model_dir), str(port)]
    url = f"http://127.0.0.1:{port}"
    began = time.perf_counter()
    process = subprocess.Popen(
        words,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _answers(server, url):
            if process.poll() is not None or time.perf_counter() - began > SECONDS_TO_START:
                raise InputError(f"{server.title} did not start. Try it: {' '.join(words)}")
            time.sleep(0.02)
        yield url, time.perf_counter() - began
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and whatever it started: LitServe's workers outlive it, and keep the processor busy."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def _answers(server: Server, url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        if server.is_ours:
            return requests.get(f"{url}/v2/models/{NAME}/ready", timeout=60).ok
        return requests.post(url + server.path, json=server.body("ready?"), timeout=60).ok
    return False


async def _probed(
    work: Coroutine[Any, Any, LoadResult], url: str, seconds: float, slowest: list[float]
) -> LoadResult:
    """Does the work, and adds to `slowest` how long the server's liveness took to answer at most, meanwhile."""
    probing = asyncio.create_task(probe(urljoin(url, "/v2/health/live"), seconds))
    found = await work
    slowest.append(max(await probing))
    return found


def _wait_until_idle() -> None:
    """Waits until the servers have nothing of their own to do; miniml measures engines while no text comes."""
    for _ in range(ATTEMPTS_TO_BE_IDLE):
        before = _processor_seconds()
        time.sleep(IDLE_S)
        if _processor_seconds() - before < IDLE_SHARE * IDLE_S:
            return


def _processor_seconds() -> float:
    found = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            found += times.user + times.system
    return found


def _noted(point: Point, server: Server) -> Point:
    load = f"{point.load:.0f} clients" if point.loop == "closed" else f"{point.load:.1f} arrivals/s"
    _say(
        f"{server.title:<24} {load:<16} {point.rate:6.1f}/s  p50 {point.p50:7.1f}  p99 {point.p99:7.1f} ms"
        + (f"  503: {point.refused}" if point.refused else "")
        + (f"  failed: {point.failed}" if point.failed else "")
    )
    return point


def _say(words: str) -> None:
    print(words, flush=True)


def machine_facts(threads: int) -> dict[str, Any]:
    """What the figures hold for."""
    packages = ("torch", "transformers", "openvino", "kserve", "fastapi", "litserve")
    facts = described(*packages)
    return {**facts, "processor": f"{facts['processor']}, {facts['cores']} cores, {threads} threads"}


if __name__ == "__main__":
    sys.exit(main())
