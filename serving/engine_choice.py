"""Which engine answers: measured at load, on this processor, among those that agree with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.classifier import Classifier
from miniml.engines import REFERENCE, Engine, Logits, TokenIds, TorchEngine, builders
from miniml.errors import InputError

AUTO = "auto"
# It takes half a minute to compile, so it is used where it is asked for.
ONLY_WHEN_ASKED = ("torch-compiled",)
# How far a probability may lie from the reference's. bfloat16 keeps 8 bits of a number, which comes to
# some 0.01 at the end of a small encoder.
TOLERANCE = 0.02
# Tokens of the single requests that are timed; the short ones decide, the long one is checked and shown.
SINGLES = (16, 64, 256)
SHORT = 2
# Texts and longest length of the batch that is timed: its lengths differ, so that padding is checked too.
BATCH = (8, 128)
REPEATS = 2


@dataclass(frozen=True)
class Trial:
    """How one engine did."""

    engine: str
    seconds: tuple[float, ...]
    """For each of the shapes, the single requests first and the batch last."""
    difference: float
    """The largest between a probability and the reference's."""

    @property
    def admitted(self) -> bool:
        return self.difference <= TOLERANCE


class EngineByShape:
    """One engine for single texts, another for batches."""

    def __init__(self, single: Engine, batched: Engine) -> None:
        self.name = single.name if single is batched else f"{single.name} and {batched.name}"
        self._single, self._batched = single, batched

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        engine = self._single if len(token_ids) == 1 else self._batched
        return engine(token_ids, attention_mask)


@dataclass(frozen=True)
class Choice:
    """The classifier on the engine that was chosen, and why."""

    classifier: Classifier
    table: str
    tokens_per_second: float
    """In batches."""


def choose(classifier: Classifier, model_dir: Path, wanted: str, threads: int) -> Choice:
    """Warms the engines that `wanted` allows, and takes the fastest for single texts and for batches.

    To be called on the thread that will run the engine: OpenMP keeps its threads by calling thread.

    Args:
        classifier: on the reference engine.
        wanted: an engine's name, or "auto" for every one that starts quickly.
        threads: processors to use.

    Raises:
        InputError: no such engine here, or it does not agree with the reference.
    """
    assert isinstance(classifier.engine, TorchEngine)
    available = builders(classifier.engine, model_dir, threads)
    if wanted not in (AUTO, *available):
        raise InputError(f"engine {wanted!r} is not to be had here. Choose {AUTO}, {', '.join(available)}.")
    names = [name for name in available if name not in ONLY_WHEN_ASKED] if wanted == AUTO else [wanted]
    shapes = _shapes(classifier)
    expected = [classifier.run(shape) for shape in shapes]
    engines: dict[str, Engine] = {}
    trials = []
    for name in names:
        engine = available[name]()
        trial = _try(classifier.on(engine), shapes, expected)
        trials.append(trial)
        if trial.admitted:
            engines[name] = engine
    if not engines:
        raise InputError(
            f"engine {wanted!r} differs from {REFERENCE} by {trials[0].difference:.3f} in a probability, more than "
            f"{TOLERANCE}. Choose {AUTO} or {REFERENCE}."
        )
    admitted = [trial for trial in trials if trial.engine in engines]
    single = min(admitted, key=lambda trial: sum(trial.seconds[:SHORT]))
    batched = min(admitted, key=lambda trial: trial.seconds[-1])
    return Choice(
        classifier.on(EngineByShape(engines[single.engine], engines[batched.engine])),
        _table(trials, shapes, single.engine, batched.engine),
        sum(len(ids) for ids in shapes[-1]) / batched.seconds[-1],
    )


def _shapes(classifier: Classifier) -> list[list[TokenIds]]:
    """What is timed: each length by itself, and then a batch."""
    count, longest = BATCH
    lengths = [longest - step * longest // (2 * count) for step in range(count)]
    return [*([single] for single in classifier.made_up(*SINGLES)), classifier.made_up(*lengths)]


def _try(
    classifier: Classifier, shapes: Sequence[list[TokenIds]], expected: Sequence[npt.NDArray[np.float32]]
) -> Trial:
    found = [classifier.run(shape) for shape in shapes]  # warms it, too
    difference = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    seconds = tuple(_best_time(lambda shape=shape: classifier.run(shape)) for shape in shapes)  # type: ignore[misc]
    # A probability that is no number compares with nothing, and would pass.
    return Trial(classifier.engine.name, seconds, difference if difference == difference else float("inf"))


def _best_time(run: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


def _table(trials: Sequence[Trial], shapes: Sequence[list[TokenIds]], single: str, batched: str) -> str:
    heads = [f"{len(shape)}×{max(map(len, shape))}" for shape in shapes]
    lines = [f"{'engine':<16}" + "".join(f"{head + ' ms':>11}" for head in heads) + f"{'max Δp':>9}"]
    for trial in trials:
        figures = "".join(f"{seconds * 1000:>11.1f}" for seconds in trial.seconds)
        uses = [use for use, name in (("single texts", single), ("batches", batched)) if name == trial.engine]
        verdict = "  ".join([f"for {' and '.join(uses)}"] if uses else [] if trial.admitted else ["refused"])
        lines.append(f"{trial.engine:<16}{figures}{trial.difference:>9.4f}  {verdict}".rstrip())
    return "\n".join(lines)
