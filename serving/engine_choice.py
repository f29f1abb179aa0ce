"""Which engine answers: measured at load, on this processor, among those that agree with the reference."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniml.errors import InputError
from miniml.model import probes
from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE, Engine, Logits, OpenVinoEngine, TokenIds, TorchEngine, builders
from miniml.model.heads import Head
from miniml.model.model_files import in_a_line

AUTO = "auto"
# It takes half a minute to compile, so it is used where it is asked for.
ONLY_WHEN_ASKED = ("torch-compiled",)
# How far a probability may lie from the reference's, or a number in standard deviations of the labels. bfloat16 keeps
# 8 bits of a number, which comes to some 0.01 at the end of a small encoder.
TOLERANCE = 0.02
# Tokens of the single requests that are timed; the short ones decide, the long one is checked and shown.
SINGLES = (16, 64, 256)
SHORT = 2
# Lengths of the batch that is timed where the model folder brings no probes.
BATCH = (128, 118, 108, 98, 88, 78)
# Of each shape at least, but for the slowest by far, the reference's batch; short ones get more, for as long as this.
PASSES, MAX_PASSES = 2, 10
SECONDS_OF_PASSES = 0.02
# Batches at the same time under load. Threads of one batch wait for each other after every layer, and all of them for
# one that the event loop or a client holds up; those of another batch do not.
LANES = 2
# Tokens of two texts of which the short one is asked alone and then beside the long one, and how far the answers may
# lie apart, as TOLERANCE says it: rounding comes to a hundredth of it, padding that is not masked to much more.
PADDED = (8, 64)
TOLERANCE_OF_PADDING = 1e-4


@dataclass(frozen=True)
class Trial:
    """How one engine did."""

    engine: str
    seconds: tuple[float, ...]
    """For each of the shapes, the single requests first and the batch last."""
    difference: float
    """See `_difference`."""

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
    """On all threads."""
    lanes: list[Classifier]
    """For batches that run beside each other, each on its share of the threads; or the one above."""
    table: str
    tokens_per_second: float
    """In batches."""
    pads: bool
    """Whether a text gets the answer that it gets alone when it is padded to the length of others."""


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
    pads = _pads(classifier)
    shapes = _shapes(classifier, model_dir, pads)
    engines: dict[str, Engine] = {}
    trials, failures = [], {}
    engine: Engine
    # The reference is what the others are held against, so it runs whether it is wanted or not.
    expected, reference_seconds = _tried(classifier, shapes, passes_of_batch=1)
    for name in names:
        engine, found, seconds = classifier.engine, expected, reference_seconds
        if name != REFERENCE:
            try:
                engine = available[name]()
                found, seconds = _tried(classifier.on(engine), shapes)
            except Exception as error:  # whatever a converter of any architecture stumbles over
                failures[name] = in_a_line(error)
                continue
        trial = Trial(name, seconds, _difference(classifier.head, found, expected))
        trials.append(trial)
        if trial.admitted:
            engines[name] = engine
    if not engines and failures:
        raise InputError(
            f"engine {wanted!r} cannot run this model ({failures[wanted]}). Choose {AUTO} or {REFERENCE}."
        )
    if not engines:
        raise InputError(
            f"engine {wanted!r} differs from {REFERENCE} by {trials[0].difference:.3f} {classifier.head.differs_in}, "
            f"more than {TOLERANCE}. Choose {AUTO} or {REFERENCE}."
        )
    admitted = [trial for trial in trials if trial.engine in engines]
    single = min(admitted, key=lambda trial: sum(trial.seconds[:-1][:SHORT]))
    batched = min(admitted, key=lambda trial: trial.seconds[-1])
    fastest = classifier.on(EngineByShape(engines[single.engine], engines[batched.engine]))
    return Choice(
        fastest,
        _lanes(classifier, engines[batched.engine], threads, shapes[0]) or [fastest],
        "\n".join(
            [
                _table(trials, shapes, single.engine, batched.engine),
                *(f"{name:<16} cannot run this model: {said}" for name, said in failures.items()),
            ]
        ),
        sum(len(ids) for ids in shapes[-1]) / batched.seconds[-1],
        pads,
    )


def _pads(classifier: Classifier) -> bool:
    """Of the reference; the others were found to agree with it."""
    short, long = classifier.made_up(*PADDED)
    alone, beside = classifier.scaled([short]), classifier.scaled([short, long])[:1]
    return classifier.head.disagreement(beside, alone) <= TOLERANCE_OF_PADDING


def _lanes(classifier: Classifier, engine: Engine, threads: int, warming: list[TokenIds]) -> list[Classifier]:
    """The classifier on engines that run beside each other, where that engine can, and has threads for it."""
    if threads < LANES or not isinstance(engine, OpenVinoEngine):
        return []
    lanes = [classifier.on(beside) for beside in engine.beside(LANES)]
    for lane in lanes:
        lane.run(warming)
    return lanes


def _shapes(classifier: Classifier, model_dir: Path, pads: bool) -> list[list[TokenIds]]:
    """What is timed and compared: each length by itself, and then a batch, of one length where nothing is padded."""
    if pads:
        # An empty text, beside which there is nearly nothing but padding: some converted models read that.
        batch = (probes.read(model_dir) or classifier.made_up(*BATCH)) + classifier.made_up(0)
    else:
        batch = classifier.made_up(*[BATCH[0]] * len(BATCH))
    # A model that reads fewer tokens than the longest has several of one length.
    singles = {len(single): single for single in classifier.made_up(*SINGLES)}
    return [*([single] for single in singles.values()), batch]


def _tried(
    classifier: Classifier, shapes: Sequence[list[TokenIds]], passes_of_batch: int = PASSES
) -> tuple[list[Logits], tuple[float, ...]]:
    """Each shape's logits over the temperature, and the seconds of the quickest pass: the first warms the engine."""
    answers, seconds = [], []
    for shape in shapes:
        least = passes_of_batch if len(shape) > 1 else PASSES
        passes: list[float] = []
        while len(passes) < least or (len(passes) < MAX_PASSES and sum(passes) < SECONDS_OF_PASSES):
            began = time.perf_counter()
            rows = classifier.scaled(shape)
            passes.append(time.perf_counter() - began)
        answers.append(rows)
        seconds.append(min(passes))
    return answers, tuple(seconds)


def _difference(head: Head, found: Sequence[Logits], expected: Sequence[Logits]) -> float:
    """The largest disagreement on any shape; infinite where an output is no number."""
    differences = [head.disagreement(a, b) for a, b in zip(found, expected, strict=True)]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def _table(trials: Sequence[Trial], shapes: Sequence[list[TokenIds]], single: str, batched: str) -> str:
    heads = [f"{len(shape)}×{max(map(len, shape))}" for shape in shapes]
    lines = [f"{'engine':<16}" + "".join(f"{head + ' ms':>11}" for head in heads) + f"{'max Δ':>9}"]
    for trial in trials:
        figures = "".join(f"{seconds * 1000:>11.1f}" for seconds in trial.seconds)
        uses = [use for use, name in (("single texts", single), ("batches", batched)) if name == trial.engine]
        verdict = "  ".join([f"for {' and '.join(uses)}"] if uses else [] if trial.admitted else ["refused"])
        lines.append(f"{trial.engine:<16}{figures}{trial.difference:>9.4f}  {verdict}".rstrip())
    return "\n".join(lines)
