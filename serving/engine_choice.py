"""Chooses the engine: of those that agree with the reference, the fastest on this processor, measured at load."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miniml.errors import InputError
from miniml.model import probes
from miniml.model.classifier import Classifier
from miniml.model.engines import (
    ENGINES,
    REFERENCE,
    Engine,
    Logits,
    ServedModel,
    TokenIds,
    TorchEngine,
    build_streams,
    builders,
)
from miniml.model.heads import Head
from miniml.model.model_files import in_a_line

AUTO = "auto"
# How far a probability may lie from the reference's, or a value in standard deviations of the labels. bfloat16 keeps
# 8 bits of a number, which makes a difference of some 0.01 after a small encoder.
TOLERANCE = 0.02
# The lengths of the single requests that are measured, in tokens. The first `SHORT` decide on the engine; all have to
# agree.
SINGLES = (16, 64, 256)
SHORT = 2
# The lengths of the batch that is measured, in tokens, where the model folder has no probes.
BATCH = (128, 118, 108, 98, 88, 78)
# Each shape runs at least twice, but the reference's batch, by far the slowest, once; short ones run more often, within
# this time.
MIN_PASSES, MAX_PASSES = 2, 10
MEASURING_S = 0.02
# Batches that run at the same time under load. The threads of one batch wait for each other after every layer, and so
# for one that the event loop or a client's process delays; the threads of another batch do not.
STREAMS = 2
# The lengths of two texts, in tokens. The short one runs alone, and then in a batch with the long one; the answers may
# differ by so much, in the unit of TOLERANCE. Rounding makes a hundredth of it, unmasked padding much more.
PADDING_PROBE = (8, 64)
PADDING_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Measurement:
    """The speed of one engine, and how far it is from the reference."""

    engine: str
    seconds: tuple[float, ...]
    """The seconds that each shape took: the single requests first, the batch last."""
    difference: float
    """The largest difference from the reference, in the unit of TOLERANCE; see `_difference`."""

    @property
    def admitted(self) -> bool:
        """Whether the engine agrees with the reference."""
        return self.difference <= TOLERANCE


class EngineByShape:
    """An engine that runs single texts on one engine, and batches on another."""

    def __init__(self, single: Engine, batched: Engine) -> None:
        self.name = single.name if single is batched else f"{single.name} and {batched.name}"
        self._single, self._batched = single, batched

    def __call__(self, token_ids: TokenIds, attention_mask: TokenIds) -> Logits:
        engine = self._single if len(token_ids) == 1 else self._batched
        return engine(token_ids, attention_mask)


@dataclass(frozen=True)
class Choice:
    """The classifier on the chosen engine, and the measurements that led to it."""

    classifier: Classifier
    """The classifier with all threads."""
    streams: list[Classifier]
    """Classifiers for batches that run at the same time, each with its share of the threads; or only the one above."""
    measurements: str
    """The measurements, as a table for the log."""
    tokens_per_second: float
    """The speed of batches, without padding."""
    pads: bool
    """Whether padding leaves a text's answer as it is."""


def choose(classifier: Classifier, model_dir: Path, wanted: str, threads: int) -> Choice:
    """Measures the engines that `wanted` allows, and chooses the fastest for single texts and for batches.

    Call it on the thread that will run the engine, because OpenMP keeps separate threads for each calling thread.

    Args:
        classifier: The classifier on the reference engine.
        model_dir: The model folder, which may have an exported model and probes.
        wanted: An engine's name, or "auto" for all that start quickly.
        threads: The number of processors to use.

    Raises:
        InputError: There is no such engine here, it cannot run the model, or it disagrees with the reference.
    """
    assert isinstance(classifier.engine, TorchEngine)
    served = ServedModel(classifier.engine, model_dir, threads)
    available = builders(served)
    if wanted not in (AUTO, *available):
        raise InputError(f"engine {wanted!r} is not to be had here. Choose {AUTO}, {', '.join(available)}.")
    names = [name for name in available if not ENGINES[name].only_when_asked] if wanted == AUTO else [wanted]
    pads = _pads(classifier)
    shapes = _shapes(classifier, model_dir, pads)
    engines, measurements, failures = _compare(classifier, {name: available[name] for name in names}, shapes)
    _require_some(engines, wanted, measurements, failures, classifier.head)
    admitted = [measurement for measurement in measurements if measurement.admitted]
    single = min(admitted, key=lambda measurement: sum(measurement.seconds[:-1][:SHORT]))
    batched = min(admitted, key=lambda measurement: measurement.seconds[-1])
    fastest = classifier.on(EngineByShape(engines[single.engine], engines[batched.engine]))
    lines = [
        _table(measurements, shapes, single.engine, batched.engine),
        *(f"{name:<16} cannot run this model: {error}" for name, error in failures.items()),
    ]
    return Choice(
        classifier=fastest,
        streams=_streams(classifier, batched.engine, served, shapes[0]) or [fastest],
        measurements="\n".join(lines),
        tokens_per_second=sum(len(ids) for ids in shapes[-1]) / batched.seconds[-1],
        pads=pads,
    )


def _compare(
    classifier: Classifier, candidates: Mapping[str, Callable[[], Engine]], shapes: Sequence[list[TokenIds]]
) -> tuple[dict[str, Engine], list[Measurement], dict[str, str]]:
    """Measures the candidates.

    Returns:
        The engines that agree with the reference, by name; the measurements of all that run; and why the others do not.
    """
    engines: dict[str, Engine] = {}
    measurements: list[Measurement] = []
    failures: dict[str, str] = {}
    # The others are compared with the reference, so it runs whether it is a candidate or not.
    expected, reference_seconds = _measure(classifier, shapes, passes_of_batch=1)
    for name, build in candidates.items():
        engine: Engine = classifier.engine
        found, seconds = expected, reference_seconds
        if name != REFERENCE:
            try:
                engine = build()
                found, seconds = _measure(classifier.on(engine), shapes)
            except Exception as error:
                # Converters fail on some architectures, with errors of any class.
                failures[name] = in_a_line(error)
                continue
        measurement = Measurement(name, seconds, _difference(classifier.head, found, expected))
        measurements.append(measurement)
        if measurement.admitted:
            engines[name] = engine
    return engines, measurements, failures


def _require_some(
    engines: Mapping[str, Engine],
    wanted: str,
    measurements: Sequence[Measurement],
    failures: Mapping[str, str],
    head: Head,
) -> None:
    if engines:
        return
    if failures:
        raise InputError(
            f"engine {wanted!r} cannot run this model ({failures[wanted]}). Choose {AUTO} or {REFERENCE}."
        )
    raise InputError(
        f"engine {wanted!r} differs from {REFERENCE} by {measurements[0].difference:.3f} {head.differs_in}, "
        f"more than {TOLERANCE}. Choose {AUTO} or {REFERENCE}."
    )


def _pads(classifier: Classifier) -> bool:
    """Tells whether padding leaves the reference's answers as they are; the other engines agree with it."""
    short, long = classifier.made_up(*PADDING_PROBE)
    alone, beside = classifier.scaled([short]), classifier.scaled([short, long])[:1]
    return classifier.head.disagreement(beside, alone) <= PADDING_TOLERANCE


def _streams(
    classifier: Classifier, engine: str, served: ServedModel, warming: list[TokenIds]
) -> list[Classifier]:
    """Returns classifiers that run at the same time; none where the engine cannot, or has too few threads."""
    if served.threads < STREAMS:
        return []
    streams = [classifier.on(stream) for stream in build_streams(engine, served, STREAMS)]
    for stream in streams:
        stream.run(warming)
    return streams


def _shapes(classifier: Classifier, model_dir: Path, pads: bool) -> list[list[TokenIds]]:
    """Returns what is measured: single texts of each length, and then a batch, of one length where nothing pads."""
    if pads:
        # Beside an empty text there is hardly anything but padding, which some converted models read.
        batch = (probes.read(model_dir) or classifier.made_up(*BATCH)) + classifier.made_up(0)
    else:
        batch = classifier.made_up(*[BATCH[0]] * len(BATCH))
    # Where the model reads fewer tokens than the longest, several have one length.
    singles = {len(single): single for single in classifier.made_up(*SINGLES)}
    return [*([single] for single in singles.values()), batch]


def _measure(
    classifier: Classifier, shapes: Sequence[list[TokenIds]], passes_of_batch: int = MIN_PASSES
) -> tuple[list[Logits], tuple[float, ...]]:
    """Runs each shape several times; the first pass warms the engine.

    Returns:
        For each shape the logits over the temperature, shape [texts, width], and the seconds of the fastest pass.
    """
    answers, seconds = [], []
    for shape in shapes:
        least = passes_of_batch if len(shape) > 1 else MIN_PASSES
        passes: list[float] = []
        while len(passes) < least or (len(passes) < MAX_PASSES and sum(passes) < MEASURING_S):
            began = time.perf_counter()
            rows = classifier.scaled(shape)
            passes.append(time.perf_counter() - began)
        answers.append(rows)
        seconds.append(min(passes))
    return answers, tuple(seconds)


def _difference(head: Head, found: Sequence[Logits], expected: Sequence[Logits]) -> float:
    """Returns the largest disagreement on any shape, infinite where an output is not a number."""
    differences = [head.disagreement(a, b) for a, b in zip(found, expected, strict=True)]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def _table(
    measurements: Sequence[Measurement], shapes: Sequence[list[TokenIds]], single: str, batched: str
) -> str:
    heads = [f"{len(shape)}×{max(map(len, shape))}" for shape in shapes]
    lines = [f"{'engine':<16}" + "".join(f"{head + ' ms':>11}" for head in heads) + f"{'max Δ':>9}"]
    for measurement in measurements:
        figures = "".join(f"{seconds * 1000:>11.1f}" for seconds in measurement.seconds)
        uses = [
            use
            for use, name in (("single texts", single), ("batches", batched))
            if name == measurement.engine
        ]
        verdict = "  ".join(
            [f"for {' and '.join(uses)}"] if uses else [] if measurement.admitted else ["refused"]
        )
        lines.append(f"{measurement.engine:<16}{figures}{measurement.difference:>9.4f}  {verdict}".rstrip())
    return "\n".join(lines)
