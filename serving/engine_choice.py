"""Chooses the engine: of those that agree with the reference, the fastest on this processor.

A server that starts does not measure: `choose_at_once` takes the engines that were the fastest at an earlier start, or
else are likely to be. `choose` measures all of them. Both compare an engine with the reference before it may answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from miniml.errors import InputError
from miniml.model import comparison_batches, quick_start
from miniml.model.classifier import Classifier
from miniml.model.engines import (
    ENGINES,
    REFERENCE,
    TOLERANCE,
    Engine,
    Logits,
    PinnedEngine,
    Reference,
    ServedModel,
    TokenIds,
    build_streams,
    builders,
)
from miniml.model.heads import Head
from miniml.model.model_files import in_a_line

from . import engine_records
from .engine_records import EngineRecord

AUTO = "auto"
# The order in which engines are likely to be fast: whoever gives a server a GPU means it to be used; bfloat16 is among
# those to be had only where the processor multiplies it, and is then faster than fp32 by whichever library. The
# reference is last, and to be had everywhere.
LIKELY = ("torch-cuda-bf16", "torch-cuda-fp16", "openvino-bf16", "torch-bf16", "openvino-fp32", REFERENCE)
# Of the single requests that are measured, the first `SHORT` decide on the engine; all have to agree.
SHORT = 2
# Each shape runs at least twice, but the reference's batch, by far the slowest, once; short ones run more often, within
# this time.
MIN_PASSES, MAX_PASSES = 2, 10
MEASURING_S = 0.02
# Then the engines are measured again in turns: another program, such as a server that starts beside this one, slows for
# seconds whatever is measured at the time, and its fastest pass of all is what counts.
ROUNDS = 3
# Batches that run at the same time under load. The threads of one batch wait for each other after every layer, and so
# for one that the event loop or a client's process delays; the threads of another batch do not.
STREAMS = 2

Stopwatch = Callable[[Callable[[], Logits]], tuple[Logits, float]]
"""Runs one pass of an engine, and returns its logits and the seconds that it took."""


def timed(run: Callable[[], Logits]) -> tuple[Logits, float]:
    """Runs one pass at once; see `Stopwatch`."""
    began = time.perf_counter()
    logits = run()
    return logits, time.perf_counter() - began


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
    """The classifier on the chosen engines, and what led to it."""

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
    engines: EngineRecord
    """The names of the chosen engines."""
    circumstances: dict[str, Any]
    """What the choice holds for, as records of it are kept by."""
    is_guess: bool = False
    """Whether another engine might be faster, because none was measured."""


@dataclass
class _Comparison:
    """Compares engines with the reference, each at most once."""

    classifier: Classifier
    """The classifier on the reference engine."""
    served: ServedModel
    shapes: list[list[TokenIds]]
    pads: bool
    """Whether padding leaves the reference's answers as they are."""
    stored: Sequence[Logits] | None
    """The reference's logits over the temperature, as they were stored; None has the reference run."""
    stopwatch: Stopwatch
    passes: tuple[int, int]
    """The least and the greatest number of passes over a shape."""
    available: dict[str, Callable[[], Engine]]
    """Builds each engine that this machine can run."""
    engines: dict[str, Engine] = field(default_factory=dict)
    """The engines that agree with the reference, by name."""
    measurements: list[Measurement] = field(default_factory=list)
    """The measurements of all that run."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why the others do not."""

    def __post_init__(self) -> None:
        if self.stored is not None:
            self._expected = list(self.stored)
            return
        # The others are compared with the reference, so it runs whether it is a candidate or not.
        self._expected, self._reference_seconds = self._measure(self.classifier, passes_of_batch=1)

    def admits(self, name: str) -> bool:
        """Tries the engine unless it was tried, and returns whether it agrees with the reference."""
        if name not in self.failures and not any(found.engine == name for found in self.measurements):
            self._try(name)
        return name in self.engines

    def first_of(self, names: Iterable[str]) -> str | None:
        """Returns the first engine that agrees with the reference; those after it are not tried."""
        return next((name for name in names if name in self.available and self.admits(name)), None)

    def repeat(self, rounds: int, pause_s: float) -> None:
        """Measures in turns the engines that agree, and keeps the fastest pass of each over each shape.

        Args:
            rounds: How often each engine runs over each shape.
            pause_s: The seconds before each round.
        """
        for _ in range(rounds):
            time.sleep(pause_s)
            for place, known in enumerate(self.measurements):
                if known.admitted:
                    classifier = self.classifier.on(self.engines[known.engine])
                    seconds = [self._timed(classifier, shape)[1] for shape in self.shapes]
                    fastest = tuple(map(min, known.seconds, seconds))
                    self.measurements[place] = replace(known, seconds=fastest)

    def _timed(self, classifier: Classifier, shape: list[TokenIds]) -> tuple[Logits, float]:
        return self.stopwatch(lambda: classifier.scaled(shape))

    def _try(self, name: str) -> None:
        engine: Engine = self.classifier.engine
        if name == REFERENCE:
            found, seconds = self._expected, self._reference_seconds
        else:
            try:
                engine = self.available[name]()
                found, seconds = self._measure(self.classifier.on(engine), self.passes[0])
            except Exception as error:
                # Converters fail on some architectures, with errors of any class.
                self.failures[name] = in_a_line(error)
                return
        measurement = Measurement(name, seconds, _difference(self.classifier.head, found, self._expected))
        self.measurements.append(measurement)
        if measurement.admitted:
            self.engines[name] = engine

    def _measure(
        self, classifier: Classifier, passes_of_batch: int
    ) -> tuple[list[Logits], tuple[float, ...]]:
        """Runs each shape several times; the first pass warms the engine.

        Returns:
            For each shape the logits over the temperature, shape [texts, width], and the seconds of the fastest pass.
        """
        answers, seconds = [], []
        fewest, most = self.passes
        for shape in self.shapes:
            least = passes_of_batch if len(shape) > 1 else fewest
            passes: list[float] = []
            while len(passes) < least or (len(passes) < most and sum(passes) < MEASURING_S):
                rows, took = self._timed(classifier, shape)
                passes.append(took)
            answers.append(rows)
            seconds.append(min(passes))
        return answers, tuple(seconds)


def choose(
    classifier: Classifier,
    model_dir: Path,
    wanted: str,
    threads: int,
    stopwatch: Stopwatch = timed,
    pause_s: float = 0.0,
) -> Choice:
    """Measures the engines that `wanted` allows, and chooses the fastest for single texts and for batches.

    OpenMP keeps separate threads for each calling thread, so the calling thread's number of them has to be set before.

    Args:
        classifier: The classifier on the reference engine.
        model_dir: The model folder, which may have an exported model and probes.
        wanted: An engine's name, or "auto" for all that start quickly.
        threads: The number of processors to use.
        stopwatch: Runs and times each pass.
        pause_s: The seconds between rounds over all engines, in which whatever slowed a round may end.

    Raises:
        InputError: There is no such engine here, it cannot run the model, or it disagrees with the reference.
    """
    served = _served(classifier, model_dir, threads)
    available = builders(served)
    if wanted not in (AUTO, *available):
        raise InputError(f"engine {wanted!r} is not to be had here. Choose {AUTO}, {', '.join(available)}.")
    how = _How(served, available, stopwatch, (MIN_PASSES, MAX_PASSES))
    if isinstance(served.reference, PinnedEngine):
        return _of_its_own_engine(classifier, how)
    names = _unasked(available) if wanted == AUTO else [wanted]
    comparison = None if wanted == AUTO else _with_stored_answers(classifier, how)
    if comparison is None or not comparison.first_of(_light(names)):
        comparison = _with_reference(classifier, how)
    for name in names:
        comparison.admits(name)
    _require_some(comparison.engines, wanted, comparison.measurements, comparison.failures, classifier.head)
    if len(comparison.engines) > 1:
        comparison.repeat(ROUNDS, pause_s)
    admitted = [measurement for measurement in comparison.measurements if measurement.admitted]
    single = min(admitted, key=lambda measurement: sum(measurement.seconds[:-1][:SHORT]))
    batched = min(admitted, key=lambda measurement: measurement.seconds[-1])
    return _choice(comparison, EngineRecord(single.engine, batched.engine))


def choose_at_once(classifier: Classifier, model_dir: Path, threads: int) -> Choice:
    """Chooses the engines that were the fastest at an earlier start, or else are likely to be, without measuring.

    An engine runs once over each shape, and is chosen only if it agrees with the reference: with its stored answers,
    if the reference's model is not in memory, and the first engine that does not need it agrees with them.

    Args:
        classifier: The classifier on the reference engine.
        model_dir: The model folder, which may have an exported model and probes.
        threads: The number of processors to use.

    Raises:
        InputError: The reference itself gives no numbers, or a model that is bound to an engine is answered otherwise
            by it than where it was made.
    """
    served = _served(classifier, model_dir, threads)
    available = builders(served)
    how = _How(served, available, timed, (1, 1))
    if isinstance(served.reference, PinnedEngine):
        return _of_its_own_engine(classifier, how)
    record = engine_records.read(_circumstances(classifier, served, available))
    singles = [record.single, *LIKELY] if record else LIKELY
    batches = [record.batched, *LIKELY] if record else LIKELY
    comparison = _with_stored_answers(classifier, how)
    single = comparison.first_of(_light(singles)) if comparison else None
    batched = comparison.first_of(_light(batches)) if comparison else None
    if comparison is None or single is None or batched is None:
        comparison = _with_reference(classifier, how)
        single, batched = comparison.first_of(singles), comparison.first_of(batches)
    if single is None or batched is None:
        raise InputError(f"{REFERENCE} answers texts with what is no number, so the model cannot be served.")
    found = EngineRecord(single, batched)
    is_guess = found != record and len(_unasked(available)) > 1
    origin = (
        "Others are measured once no text comes" if is_guess else "As they were measured at an earlier start"
    )
    return _choice(comparison, found, is_guess, f"first passes, which are slow. {origin}.")


def _of_its_own_engine(classifier: Classifier, how: _How) -> Choice:
    """Returns the choice for a model that is bound to an engine, if its answers are those that were stored."""
    name = how.served.reference.name
    comparison = _with_stored_answers(classifier, how) or _with_reference(classifier, how)
    if comparison.admits(name):
        return _choice(comparison, EngineRecord(name, name))
    if name in comparison.failures:
        raise InputError(f"engine {name!r} cannot run this model ({comparison.failures[name]}).")
    raise InputError(
        f"engine {name!r} answers otherwise here than where the model was made and evaluated, by "
        f"{comparison.measurements[0].difference:.3f} {classifier.head.differs_in}, more than {TOLERANCE}. Compress on "
        f"a processor like this one, or without int8."
    )


def _choice(comparison: _Comparison, chosen: EngineRecord, is_guess: bool = False, note: str = "") -> Choice:
    """Puts the classifier on the chosen engines."""
    classifier, served, engines = comparison.classifier, comparison.served, comparison.engines
    shapes = comparison.shapes
    fastest = classifier.on(EngineByShape(engines[chosen.single], engines[chosen.batched]))
    lines = [
        _table(comparison.measurements, shapes, chosen.single, chosen.batched),
        *(f"{name:<16} cannot run this model: {error}" for name, error in comparison.failures.items()),
        *([note] if note else []),
    ]
    batch_seconds = {found.engine: found.seconds[-1] for found in comparison.measurements}[chosen.batched]
    return Choice(
        classifier=fastest,
        streams=_streams(classifier, chosen.batched, served, shapes[0]) or [fastest],
        measurements="\n".join(lines),
        tokens_per_second=sum(len(ids) for ids in shapes[-1]) / batch_seconds,
        pads=comparison.pads,
        engines=chosen,
        circumstances=_circumstances(classifier, served, comparison.available),
        is_guess=is_guess,
    )


@dataclass(frozen=True)
class _How:
    """What one comparison has in common with another one of the same model."""

    served: ServedModel
    available: dict[str, Callable[[], Engine]]
    stopwatch: Stopwatch
    passes: tuple[int, int]


def _with_reference(classifier: Classifier, how: _How) -> _Comparison:
    """Returns a comparison with the reference, which runs now."""
    tokenizer, head = classifier.tokenizer, classifier.head
    pads = comparison_batches.pads(classifier.engine, tokenizer, head)
    batches = comparison_batches.batches(tokenizer, how.served.model_dir, pads)
    return _Comparison(classifier, how.served, batches, pads, None, how.stopwatch, how.passes, how.available)


def _with_stored_answers(classifier: Classifier, how: _How) -> _Comparison | None:
    """Returns a comparison with the reference's stored answers; None if its model is in memory, or none are stored."""
    answers = None if how.served.reference.is_loaded else quick_start.read(how.served.model_dir)
    if answers is None:
        return None
    stored = [classifier.head.scaled(logits) for logits in answers.logits]
    return _Comparison(
        classifier,
        how.served,
        answers.batches,
        answers.pads,
        stored,
        how.stopwatch,
        how.passes,
        how.available,
    )


def _light(names: Iterable[str]) -> list[str]:
    """Returns the engines that need no torch, in their order."""
    kinds = ((name, ENGINES.get(name)) for name in names)
    return [name for name, kind in kinds if kind and not kind.needs_torch]


def _served(classifier: Classifier, model_dir: Path, threads: int) -> ServedModel:
    assert isinstance(classifier.engine, Reference)
    return ServedModel(classifier.engine, model_dir, threads)


def _unasked(available: Iterable[str]) -> list[str]:
    """Returns the engines that are tried where none is asked for by name."""
    return [name for name in available if not ENGINES[name].only_when_asked]


def _circumstances(classifier: Classifier, served: ServedModel, available: Iterable[str]) -> dict[str, Any]:
    return engine_records.circumstances(
        served.model_dir,
        served.reference.config,
        classifier.max_length,
        served.threads,
        _unasked(available),
    )


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
