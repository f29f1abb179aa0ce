"""How fast the engine itself is that miniml chooses, and how much of the processor's matrix products that takes."""

from __future__ import annotations

import contextlib
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch

from miniml.model.classifier import Classifier, batches_of_like_length
from miniml.model.engines import TokenIds
from serving.engine_choice import AUTO, choose
from serving.inference import TOKEN_BUDGET

# The texts of the first pass, which warms the engine and tells how many texts a measurement takes.
FIRST_TEXTS = 64
SINGLES = 100


class Ceiling:
    """The chosen engine in a bare loop: no server, no tokenizer, no clients.

    Args:
        model_dir: The model folder.
        texts: The texts, any stretch of which is like all of them in length.
        threads: The number of threads that the engine uses.
    """

    def __init__(self, model_dir: Path, texts: list[str], threads: int) -> None:
        self._classifier = Classifier.load(model_dir)
        self._choice = choose(self._classifier, model_dir, AUTO, threads)
        self._encoded = self._choice.classifier.encode(texts)
        self.rates: list[float] = []
        """The texts a second, by measurement."""

    def measure(self, seconds: float) -> None:
        """Measures the texts a second for about `seconds`, with as many batches at a time as the server runs."""
        first = self._rate(self._encoded[:FIRST_TEXTS])
        self.rates.append(self._rate(self._encoded[: max(FIRST_TEXTS, round(first * seconds))]))

    def result(self) -> dict[str, Any]:
        """Returns the engine's name and figures; rates are in texts a second, by round."""
        flops = sum(flops_of(self._classifier, len(ids)) for ids in self._encoded) / len(self._encoded)
        matrix = matrix_rates(self._classifier)
        rate = median(self.rates)
        gflops = rate * flops / 1e9
        return {
            "engine": self._choice.classifier.engine.name,
            "table": self._choice.measurements,
            "rate": rate,
            "rates": self.rates,
            "single_p50_ms": self._single_ms(),
            "flops_per_text": flops,
            "gflops": gflops,
            "matrix_gflops": matrix,
            "share": gflops / max(matrix.values()),
        }

    def _rate(self, encoded: list[TokenIds]) -> float:
        streams = self._choice.streams
        waiting = queue.SimpleQueue[list[int]]()
        for batch in batches_of_like_length([len(ids) for ids in encoded], TOKEN_BUDGET // len(streams)):
            waiting.put(batch)
        began = time.perf_counter()
        with ThreadPoolExecutor(len(streams)) as threads:
            for done in [threads.submit(_drain, waiting, stream, encoded) for stream in streams]:
                done.result()
        return len(encoded) / (time.perf_counter() - began)

    def _single_ms(self) -> float:
        seconds = []
        for ids in self._encoded[:SINGLES]:
            began = time.perf_counter()
            self._choice.classifier.run([ids])
            seconds.append(time.perf_counter() - began)
        return median(seconds) * 1_000


def _drain(waiting: queue.SimpleQueue[list[int]], stream: Classifier, encoded: list[TokenIds]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            stream.run([encoded[index] for index in waiting.get_nowait()])


def flops_of(classifier: Classifier, tokens: int) -> float:
    """Returns the operations in the matrix products that a text needs: two for each weight and token, and attention's.

    The classifier reads the first token alone. So of the last layer, only keys and values are needed for each token.
    """
    model = classifier.engine.model  # type: ignore[attr-defined]  # the reference engine
    config = model.config
    last = f".layer.{config.num_hidden_layers - 1}."
    for_each_token = for_the_first = 0
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or ".layer." not in name:
            continue
        if last in name and not name.endswith((".key", ".value")):
            for_the_first += module.weight.numel()
        else:
            for_each_token += module.weight.numel()
    attention = 4 * tokens * config.hidden_size
    of_each_token = 2 * for_each_token + attention * (config.num_hidden_layers - 1)
    return float(tokens * of_each_token + 2 * for_the_first + attention)


def matrix_rates(classifier: Classifier) -> dict[str, float]:
    """Returns the best of torch's matrix products, in GFLOP/s, at this model's shapes and at a large square one."""
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
