"""Chooses, on the validation rows, the fastest smaller model that is not inferior to the full one.

The choice may be lucky: of several models that lose just as much as the margin, one passes more often than each alone.
So only the chosen model meets the test, where the same comparison is made again on rows that no choice has seen. That
verdict alone keeps the error rate, whatever was tried before (`python -m miniml.compression.simulation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np

from miniml.compression.outcome import MeasuredModel, Selection
from miniml.compression.speed import MeasuredSpeed, measure, on_fastest_engine
from miniml.data import prepared
from miniml.evaluation.answering import answer
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import Estimate, NonInferiority
from miniml.model.classifier import Classifier
from miniml.model.engines import Reference
from miniml.processor import threads_within_quota
from miniml.progress import logger

FULL = "full"
"""The name of the full model among the candidates."""


class SmallerModel(Protocol):
    """What has to be known of a candidate."""

    @property
    def name(self) -> str:
        """A name among the candidates."""

    @property
    def folder(self) -> Path:
        """Its signed model folder."""

    @property
    def description(self) -> str:
        """What is smaller about it, in words."""


@threads_within_quota()
def select(
    dataset_dir: Path, model_dir: Path, candidates: Sequence[SmallerModel], max_loss: float
) -> Selection:
    """Compares smaller models with the full one on the validation rows, and times them beside each other.

    Args:
        dataset_dir: The dataset that the models were trained on. The split "test" is not read.
        model_dir: The full model's folder.
        candidates: The smaller models, with the same task and labels.
        max_loss: The largest loss that is accepted (see `miniml.settings.compression.CompressionSettings`).

    Raises:
        ModelFolderError: a folder is not the one that was signed.
        InputError: the dataset cannot be read.
    """
    splits, summary = prepared.load(dataset_dir, ("validation",))
    folders = [model_dir, *(each.folder for each in candidates)]
    classifiers = [Classifier.load(folder) for folder in folders]
    answers = [_answers(classifier, splits["validation"], summary.fingerprint) for classifier in classifiers]
    full, *smaller = answers
    speeds = _speeds(classifiers, folders, full.texts)
    names = [(FULL, "the model that was trained"), *((each.name, each.description) for each in candidates)]
    tests = [None, *(found.compared_with_margin(full, max_loss) for found in smaller)]
    measured = [_measured(*each) for each in zip(names, classifiers, answers, speeds, tests, strict=True)]
    return Selection(
        metric=full.task.primary_metric,
        validation_rows=len(full.texts),
        test_rows=summary.rows.get("test", 0),
        full=measured[0],
        candidates=measured[1:],
    )


def _answers(classifier: Classifier, split: datasets.Dataset, fingerprint: str) -> Predictions:
    labels = list(classifier.labels)
    kind: type[Predictions] = classifier.head.task.part("predictions")
    references = kind.references_of([_named(label, labels) for label in split["label"]], labels)
    answers, _ = answer(classifier, split, references, "validating", fingerprint)
    return answers


def _named(label: Any, labels: list[str]) -> Any:
    """Returns the name of a label, the names of several, or a number as it is."""
    if isinstance(label, list):
        return [labels[each] for each in label]
    return labels[label] if labels else label


def _speeds(
    classifiers: Sequence[Classifier], folders: Sequence[Path], texts: Sequence[str]
) -> list[MeasuredSpeed]:
    which = f"{len(folders)} models, each" if len(folders) > 1 else "the full model"
    logger.info(f"timing {which} on its fastest engine")
    served = [
        on_fastest_engine(classifier, folder, texts)
        for classifier, folder in zip(classifiers, folders, strict=True)
    ]
    return measure(served, texts)


def _measured(
    named: tuple[str, str],
    classifier: Classifier,
    answers: Predictions,
    speed: MeasuredSpeed,
    test: NonInferiority | None,
) -> MeasuredModel:
    name, description = named
    assert isinstance(classifier.engine, Reference)
    return MeasuredModel(
        name=name,
        description=description,
        digest=answers.model_digest,
        layers=int(getattr(classifier.engine.config, "num_hidden_layers", 0)),
        max_length=classifier.max_length,
        figure=Estimate(*answers.primary_metric(np.full(len(answers.texts), True))),
        engine=speed.engine,
        texts_per_second=speed.texts_per_second,
        ratio=speed.ratio,
        test=test,
    )
