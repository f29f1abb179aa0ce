"""Asks a model the rows of a split, and keeps its answers beside the labels."""

from __future__ import annotations

import time

import datasets
import numpy as np
import numpy.typing as npt

from miniml.data import prepared
from miniml.evaluation.predictions import Predictions
from miniml.model.classifier import Classifier
from miniml.progress import Progress


def answer(
    classifier: Classifier,
    split: datasets.Dataset,
    references: npt.NDArray[np.generic],
    doing: str,
    fingerprint: str,
) -> tuple[Predictions, float]:
    """Asks the model every row of a split.

    Args:
        classifier: The model.
        split: The split, as `miniml.data.prepared.load` returns it.
        references: The rows' labels, in the form of `Predictions.references`.
        doing: The word that the progress begins with, such as "testing".
        fingerprint: The fingerprint of the dataset.

    Returns:
        The task's `Predictions`, and the seconds that the answers took.
    """
    texts, own = list(split["text"]), {"text", "label"}
    # A column of the source may have that name too, but never this type.
    if prepared.GROUP in split.column_names and split.features[prepared.GROUP].dtype == "int64":
        own.add(prepared.GROUP)
    progress = Progress(doing, len(texts), "texts")
    start = time.monotonic()
    token_ids = classifier.encode(texts)
    logits = classifier.logits(token_ids, progress.report)
    seconds = time.monotonic() - start
    task = classifier.head.task
    kind: type[Predictions] = task.part("predictions")
    return kind(
        labels=classifier.labels,
        texts=texts,
        references=references,
        probabilities=classifier.probabilities(logits),
        logits=logits,
        tokens=classifier.lengths(texts),
        model_digest=classifier.manifest.digest,
        data_fingerprint=fingerprint,
        temperature=classifier.temperature,
        columns={name: list(split[name]) for name in split.column_names if name not in own},
        groups=np.array(split[prepared.GROUP], dtype=np.int64) if prepared.GROUP in own else None,
        task=task,
        **classifier.head.answer_settings(),
    ), seconds
