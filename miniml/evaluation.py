"""Scores a classifier on rows that its training never saw."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from miniml import data
from miniml.challenge import challenge
from miniml.classifier import Classifier
from miniml.errors import InputError
from miniml.evaluation_result import ClassScores, EvaluationResult, Figure, Sample
from miniml.metrics import ClassificationScores
from miniml.progress import Progress, note


def evaluate_model(
    model_dir: Path, dataset_dir: Path, *, champion_source: str = "", champion_digest: str = ""
) -> EvaluationResult:
    """Scores the model on the split "test" of the dataset that it was trained on, and the champion, if there is one.

    Raises:
        ModelFolderError: the folder is not the one that training signed.
        InputError: the dataset is another one, whose test rows the model may have been trained on.
    """
    classifier = Classifier.load(model_dir)
    splits, summary = data.load(dataset_dir, ("test",))
    trained_on = classifier.manifest.data["fingerprint"]
    if summary.fingerprint != trained_on:
        raise InputError(
            f"the dataset has fingerprint {summary.fingerprint[:12]}, the model was trained on {trained_on[:12]}: "
            f"what is its test may have been the other's training. Evaluate with the dataset of that training."
        )
    texts, references = splits["test"]["text"], splits["test"]["label"]
    progress = Progress("testing", len(texts), "texts")
    start = time.monotonic()
    probabilities = classifier.predict_probabilities(list(texts), progress.report)
    seconds = time.monotonic() - start
    predictions = np.argmax(probabilities, axis=-1)
    scores = ClassificationScores().compute(
        predictions=predictions, references=references, labels=len(classifier.labels)
    )
    assert scores is not None
    per_class = zip(classifier.labels, scores.pop("per_class"), strict=True)
    result = EvaluationResult(
        figures={name: Figure(*figure) for name, figure in scores["figures"].items()},
        classes=[ClassScores(label, **figures) for label, figures in per_class],
        confusion_matrix=scores["confusion_matrix"],
        test_rows=len(texts),
        majority_share=max(map(sum, scores["confusion_matrix"])) / len(texts),
        texts_per_second=round(len(texts) / seconds, 2),
        model_digest=classifier.manifest.digest,
        data_fingerprint=summary.fingerprint,
        samples=_samples(list(texts), classifier.labels, probabilities),
        comparison=challenge(
            champion_source,
            champion_digest,
            texts,
            [classifier.labels[index] for index in references],
            predictions == np.array(references),
        ),
    )
    accuracy = result.accuracy
    note(
        f"accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}) on {len(texts):,} held-out rows"
    )
    return result


def _samples(
    texts: list[str], labels: tuple[str, ...], probabilities: npt.NDArray[np.float32]
) -> list[Sample]:
    by_length = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
    chosen = sorted({by_length[int(share * len(texts))] for share in (0.0, 0.5, 0.9)})
    return [
        Sample(texts[row], dict(zip(labels, map(float, probabilities[row]), strict=True))) for row in chosen
    ]
