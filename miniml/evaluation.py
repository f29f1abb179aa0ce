"""Scores a classifier on rows that its training never saw."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import torch

from miniml import calibration, data, metrics, occlusion
from miniml.baseline import Baseline
from miniml.challenge import challenge
from miniml.champion import NOBODY, Champion
from miniml.classifier import Classifier
from miniml.comparison import compare
from miniml.errors import InputError
from miniml.evaluation_result import (
    Calibration,
    ClassScores,
    Comparison,
    Curves,
    EvaluationResult,
    Figure,
    Mistake,
    Sample,
    Speed,
)
from miniml.predictions import Predictions
from miniml.progress import Progress, note
from miniml.settings import EvaluationSettings
from miniml.slices import slices_of

# Explained at the cost of as many texts each; together a few seconds of a small encoder.
MISTAKES, TEXTS_A_MISTAKE = 6, 32
# Timed one at a time, after a few that only warm the engine.
TIMED, WARMING = 60, 3
# Points of a curve: more than a picture of its size can show.
CURVE_POINTS = 101


def evaluate_model(
    model_dir: Path,
    dataset_dir: Path,
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008  # frozen
    predictions_path: Path | None = None,
    champion: Champion = NOBODY,
) -> EvaluationResult:
    """Scores the model on the split "test" of the dataset that it was trained on.

    Every answer is kept at `predictions_path`, where one is given. The champion answers the same rows.

    Raises:
        ModelFolderError: the folder is not the one that training signed.
        InputError: the dataset is another one, whose test rows the model may have been trained on, or its classes
            have no order but were said to.
    """
    classifier = Classifier.load(model_dir)
    splits, summary = data.load(dataset_dir, ("train", "test"))
    _require_trained_on(classifier, summary.fingerprint)
    ranks = ranks_of(classifier.labels, settings.ordered_labels)
    predictions, seconds = _predict(classifier, splits["test"], summary.fingerprint)
    if predictions_path:
        predictions.save(predictions_path)
    scores = _scores(predictions.probabilities, predictions.references, ranks)
    baseline = Baseline(len(classifier.labels)).fit(
        list(splits["train"]["text"]), list(splits["train"]["label"])
    )
    of_baseline = baseline.predict_probabilities(predictions.texts)
    slices, small_slices = slices_of(predictions, classifier.max_length, settings.min_slice_rows)
    result = EvaluationResult(
        figures=_figures(scores),
        classes=[
            ClassScores(label, **figures)
            for label, figures in zip(classifier.labels, scores["per_class"], strict=True)
        ],
        confusion_matrix=scores["confusion_matrix"],
        test_rows=len(predictions.texts),
        majority_share=max(map(sum, scores["confusion_matrix"])) / len(predictions.texts),
        texts_per_second=round(len(predictions.texts) / seconds, 2),
        model_digest=classifier.manifest.digest,
        data_fingerprint=summary.fingerprint,
        samples=_samples(predictions),
        slices=slices,
        small_slices=small_slices,
        baseline=_figures(_scores(of_baseline, predictions.references, ranks)),
        baseline_name=baseline.name,
        baseline_comparison=_compared(predictions, of_baseline, ""),
        calibration=_calibration(predictions),
        curves=_curves(predictions),
        mistakes=_mistakes(classifier, predictions),
        speed=_speed(classifier, predictions.texts),
        comparison=challenge(champion, predictions),
    )
    _tell(result)
    return result


def ranks_of(labels: Sequence[str], ordered: str) -> list[int] | None:
    """The place of each label in their order; None where they have none.

    Args:
        labels: The classes' names.
        ordered: "yes", "no", or "auto": three or more names that are numbers, or begin with one ("4 stars"), have an
            order.

    Raises:
        InputError: "yes", for fewer than three labels.
    """
    if ordered == "no":
        return None
    if len(labels) < 3:
        if ordered == "yes":
            raise InputError(
                f"ordered_labels is 'yes', but there are {len(labels)} classes ({', '.join(labels)}), and an order "
                f"tells something of 3 or more. Set ordered_labels to auto or no."
            )
        return None
    numbers = [re.match(r"\s*([-+]?\d+(?:\.\d+)?)(?![\w.])", label) for label in labels]
    found = [float(number[1]) for number in numbers if number]
    if len(found) == len(set(found)) == len(labels):
        return [sorted(found).index(number) for number in found]
    return list(range(len(labels))) if ordered == "yes" else None


def _require_trained_on(classifier: Classifier, fingerprint: str) -> None:
    trained_on = classifier.manifest.data["fingerprint"]
    if fingerprint != trained_on:
        raise InputError(
            f"the dataset has fingerprint {fingerprint[:12]}, the model was trained on {trained_on[:12]}: "
            f"what is its test may have been the other's training. Evaluate with the dataset of that training."
        )


def _predict(classifier: Classifier, test: datasets.Dataset, fingerprint: str) -> tuple[Predictions, float]:
    """The answers to the test, and how many seconds they took."""
    texts = list(test["text"])
    progress = Progress("testing", len(texts), "texts")
    start = time.monotonic()
    token_ids = classifier.encode(texts)
    logits = classifier.logits(token_ids, progress.report)
    seconds = time.monotonic() - start
    return Predictions(
        labels=classifier.labels,
        texts=texts,
        references=np.array(test["label"], dtype=np.int64),
        probabilities=classifier.probabilities(logits),
        logits=logits,
        tokens=classifier.lengths(texts),
        model_digest=classifier.manifest.digest,
        data_fingerprint=fingerprint,
        temperature=classifier.temperature,
        columns={name: list(test[name]) for name in test.column_names if name not in ("text", "label")},
    ), seconds


def _scores(
    probabilities: npt.NDArray[np.float32], references: npt.NDArray[np.int64], ranks: list[int] | None
) -> dict[str, Any]:
    module = metrics.ClassificationScores(keep_in_memory=True)
    scores: dict[str, Any] = module.compute(predictions=probabilities, references=references, ranks=ranks)
    return scores


def _figures(scores: dict[str, Any]) -> dict[str, Figure]:
    return {name: Figure(*figure) for name, figure in scores["figures"].items()}


def _compared(predictions: Predictions, other: npt.NDArray[np.float32], digest: str) -> Comparison:
    """The model, as the challenger, with another one's probabilities for the same rows."""
    return compare(predictions.right, other.argmax(axis=1) == predictions.references, digest)


def _calibration(predictions: Predictions) -> Calibration:
    uncalibrated = calibration.softmax(predictions.logits.astype(np.float64))
    before = metrics.reliability(uncalibrated, predictions.references)
    after = metrics.reliability(predictions.probabilities, predictions.references)
    return Calibration(
        temperature=predictions.temperature,
        before=before,
        after=after,
        calibration_error_before=metrics.calibration_error(before),
        calibration_error_after=metrics.calibration_error(after),
        log_loss_before=metrics.log_loss(uncalibrated, predictions.references),
        log_loss_after=metrics.log_loss(predictions.probabilities, predictions.references),
    )


def _curves(predictions: Predictions) -> Curves | None:
    """Each probability of each row is one claim that the row is of that class."""
    claims = predictions.probabilities.ravel().astype(np.float64)
    true = np.eye(len(predictions.labels), dtype=bool)[predictions.references].ravel()
    if len(set(predictions.references.tolist())) < 2:
        return None
    order = np.argsort(-claims, kind="stable")
    found = np.cumsum(true[order])
    # Equal probabilities stand and fall together.
    ends = np.append(np.flatnonzero(np.diff(claims[order])), len(claims) - 1)
    # Evenly along the curve, which both rates make.
    along = (found[ends] / found[-1] + (ends + 1 - found[ends]) / (len(claims) - found[-1])) / 2
    kept = ends[np.unique(np.searchsorted(along, np.linspace(0, 1, CURVE_POINTS)).clip(max=len(ends) - 1))]
    recall, wrong = found[kept] / found[-1], kept + 1 - found[kept]
    return Curves(
        thresholds=claims[order][kept].tolist(),
        false_positive_rate=(wrong / (len(claims) - found[-1])).tolist(),
        recall=recall.tolist(),
        precision=(found[kept] / (kept + 1)).tolist(),
    )


def _mistakes(classifier: Classifier, predictions: Predictions) -> list[Mistake]:
    wrong = np.flatnonzero(~predictions.right)
    surest = wrong[np.argsort(-predictions.probabilities[wrong].max(axis=1), kind="stable")[:MISTAKES]]
    return [
        Mistake(
            row=int(row),
            label=classifier.labels[predictions.references[row]],
            predicted=classifier.labels[predictions.predicted[row]],
            score=float(predictions.probabilities[row].max()),
            pieces=occlusion.explain(
                classifier, predictions.texts[row], int(predictions.predicted[row]), TEXTS_A_MISTAKE
            ),
        )
        for row in surest
    ]


def _speed(classifier: Classifier, texts: list[str]) -> Speed:
    """Of single texts, from the shortest to the longest as the test has them."""
    chosen = [texts[row] for row in np.linspace(0, len(texts) - 1, min(len(texts), TIMED)).astype(int)]
    seconds = []
    for text in [*chosen[:WARMING], *chosen]:
        start = time.perf_counter()
        classifier.predict_probabilities([text])
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds[-len(chosen) :], [50, 95]) * 1000
    return Speed(classifier.engine.name, torch.get_num_threads(), round(float(p50), 2), round(float(p95), 2))


def _samples(predictions: Predictions) -> list[Sample]:
    texts = predictions.texts
    by_length = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
    chosen = sorted({by_length[int(share * len(texts))] for share in (0.0, 0.5, 0.9)})
    return [
        Sample(
            texts[row],
            dict(zip(predictions.labels, map(float, predictions.probabilities[row]), strict=True)),
        )
        for row in chosen
    ]


def _tell(result: EvaluationResult) -> None:
    accuracy = result.accuracy
    note(
        f"accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}) on {result.test_rows:,} "
        f"held-out rows, baseline {result.baseline['accuracy'].value:.3f}"
    )
