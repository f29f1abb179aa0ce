"""Measures how fast models are beside each other, each on the engine that serves it fastest here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from miniml.model.classifier import Classifier
from miniml.model.engines import ENGINES, TOLERANCE, Reference, ServedModel, TokenIds, builders
from miniml.model.model_files import in_a_line
from miniml.progress import logger
from miniml.sampling import evenly_spaced

# Texts that are timed, and the first of them, on which engines are compared.
TIMED_TEXTS, FIRST_TEXTS = 128, 16
# Passes over the texts of each model, and of each engine. Another program that takes the processor for a while slows
# some of them.
ROUNDS = 5


@dataclass(frozen=True)
class MeasuredSpeed:
    """The speed of one model beside others."""

    engine: str
    texts_per_second: float
    """The median of the passes."""
    ratio: float
    """The median of its speed over that of the first model in the same round."""


def measure(classifiers: Sequence[Classifier], texts: Sequence[str]) -> list[MeasuredSpeed]:
    """Measures models in turns, so that whatever else the machine does slows all of them alike.

    Args:
        classifiers: The models, each on its engine.
        texts: The texts, of which some are taken, evenly spaced.
    """
    timed = [texts[row] for row in evenly_spaced(len(texts), TIMED_TEXTS)]
    for classifier in classifiers:
        classifier.predict_probabilities(timed[:FIRST_TEXTS])
    seconds = np.array([[_seconds(classifier, timed) for classifier in classifiers] for _ in range(ROUNDS)])
    rates, ratios = len(timed) / seconds, seconds[:, :1] / seconds
    return [
        MeasuredSpeed(classifier.engine.name, float(rate), float(ratio))
        for classifier, rate, ratio in zip(
            classifiers, np.median(rates, axis=0), np.median(ratios, axis=0), strict=True
        )
    ]


def on_fastest_engine(classifier: Classifier, model_dir: Path, texts: Sequence[str]) -> Classifier:
    """Returns the classifier on the engine that is fastest here among those that agree with the reference.

    Args:
        classifier: The classifier on the reference engine.
        model_dir: Its folder.
        texts: Texts to try the engines on.
    """
    tried = [texts[row] for row in evenly_spaced(len(texts), FIRST_TEXTS)]
    agreeing = _on_agreeing_engines(classifier, model_dir, classifier.encode(tried))
    # In turns, as another program slows for a while whatever is measured at the time.
    seconds = [[_seconds(each, tried) for each in agreeing] for _ in range(ROUNDS)]
    return agreeing[int(np.min(seconds, axis=0).argmin())]


def _on_agreeing_engines(
    classifier: Classifier, model_dir: Path, batch: Sequence[TokenIds]
) -> list[Classifier]:
    """Returns the classifier on the reference engine, and on each other engine that answers the batch like it."""
    assert isinstance(classifier.engine, Reference)
    agreeing, expected = [classifier], classifier.scaled(batch)
    served = ServedModel(classifier.engine, model_dir, torch.get_num_threads())
    for name, build in builders(served).items():
        if name == classifier.engine.name or ENGINES[name].only_when_asked:
            continue
        try:
            on_engine = classifier.on(build())
            difference = classifier.head.disagreement(on_engine.scaled(batch), expected)
        except Exception as error:  # Converters fail on some architectures, with errors of any class.
            logger.info(f"{name} cannot run {model_dir.name}: {in_a_line(error)}")
            continue
        if difference <= TOLERANCE:
            agreeing.append(on_engine)
    return agreeing


def _seconds(classifier: Classifier, texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    classifier.predict_probabilities(texts)
    return time.perf_counter() - begin
