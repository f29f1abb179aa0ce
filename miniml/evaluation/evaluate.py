"""Scores a classifier on rows that its training never saw."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import torch

from miniml.champion.challengers import digest_of_test
from miniml.champion.record import NOBODY, Champion
from miniml.data import prepared
from miniml.errors import InputError
from miniml.evaluation.added_metrics import added_metrics
from miniml.evaluation.champion_comparison import compare_with_champion
from miniml.evaluation.evaluators import Evaluator, evaluator_of
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import EvaluationResult, Figure, Sample, Speed
from miniml.evaluation.scores import Scores
from miniml.evaluation.slices import slices_of
from miniml.metrics import Answers
from miniml.model.classifier import Classifier
from miniml.model.learnt_texts import LearntTexts
from miniml.processor import threads_within_quota
from miniml.progress import Progress, logger
from miniml.settings.evaluation import EvaluationSettings

# Timed one at a time, after a few that only warm the engine.
TIMED, WARMING = 60, 3


@threads_within_quota()
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
    splits, summary = prepared.load(dataset_dir, ("train", "test"))
    _require_trained_on(classifier, summary.fingerprint)
    evaluator = evaluator_of(classifier, settings)
    rows = LearntTexts.read(model_dir).unseen(splits["test"])
    learnt_rows = len(splits["test"]) - len(rows)
    predictions, seconds = _predict(evaluator, splits["test"].select(rows), summary.fingerprint)
    if learnt_rows:
        predictions = replace(predictions, rows=rows)
        logger.info(
            f"{learnt_rows:,} test rows are left out: the model that the training began with has seen them"
        )
    if predictions_path:
        predictions.save(predictions_path)
    scores = _scores(evaluator, predictions)
    learnt = evaluator.references(splits["train"]["label"])
    baseline = evaluator.baseline().fit(list(splits["train"]["text"]), learnt)
    of_baseline = replace(predictions, probabilities=baseline.predict_probabilities(predictions.texts))
    constant = np.tile(evaluator.constant(learnt), (len(predictions.texts), 1))
    slices, small_slices = slices_of(predictions, classifier.max_length, settings.min_slice_rows)
    result = EvaluationResult(
        task=predictions.task,
        figures=scores.figures,
        classes=scores.classes,
        confusion_matrix=scores.confusion_matrix,
        test_rows=len(predictions.texts),
        majority_share=evaluator.majority_share(predictions),
        majority_comparison=predictions.compared_with(replace(predictions, probabilities=constant), ""),
        learnt_rows=learnt_rows,
        groups=None if predictions.groups is None else len(np.unique(predictions.groups)),
        texts_per_second=round(len(predictions.texts) / seconds, 2),
        model_digest=classifier.manifest.digest,
        data_fingerprint=summary.fingerprint,
        samples=_samples(evaluator, predictions),
        slices=slices,
        small_slices=small_slices,
        baseline=_scores(evaluator, of_baseline).figures,
        baseline_name=baseline.name,
        baseline_comparison=predictions.compared_with(of_baseline, ""),
        calibration=evaluator.calibration(predictions),
        curves=evaluator.curves(predictions),
        scatter=evaluator.scatter(predictions),
        mistakes=evaluator.mistakes(predictions),
        speed=_speed(classifier, predictions.texts),
        comparison=compare_with_champion(
            champion, predictions, _digest_of(splits["test"], evaluator, predictions)
        ),
    )
    _tell(result)
    return result


def _scores(evaluator: Evaluator, predictions: Predictions) -> Scores:
    """The task's own metrics, and those that were added."""
    own = evaluator.scores(predictions)
    answers = Answers(
        predictions.task, predictions.references, predictions.predicted, predictions.probabilities
    )
    added = added_metrics(answers, predictions.groups)
    return replace(own, figures=own.figures | {name: Figure(*found) for name, found in added.items()})


def _require_trained_on(classifier: Classifier, fingerprint: str) -> None:
    trained_on = classifier.manifest.data["fingerprint"]
    if fingerprint != trained_on:
        raise InputError(
            f"the dataset has fingerprint {fingerprint[:12]}, the model was trained on {trained_on[:12]}: "
            f"what is its test may have been the other's training. Evaluate with the dataset of that training."
        )


def _digest_of(test: datasets.Dataset, evaluator: Evaluator, predictions: Predictions) -> str:
    """Of the whole split, for the same test may lack other rows for another model."""
    return digest_of_test(test["text"], predictions.names(evaluator.references(test["label"])))


def _predict(evaluator: Evaluator, test: datasets.Dataset, fingerprint: str) -> tuple[Predictions, float]:
    """The answers to the test, and how many seconds they took."""
    classifier, texts = evaluator.classifier, list(test["text"])
    own = {"text", "label"}
    # A column of the source that is called so has strings.
    if prepared.GROUP in test.column_names and test.features[prepared.GROUP].dtype == "int64":
        own.add(prepared.GROUP)
    progress = Progress("testing", len(texts), "texts")
    start = time.monotonic()
    token_ids = classifier.encode(texts)
    logits = classifier.logits(token_ids, progress.report)
    seconds = time.monotonic() - start
    return evaluator.predictions(
        labels=classifier.labels,
        texts=texts,
        references=evaluator.references(test["label"]),
        probabilities=classifier.probabilities(logits),
        logits=logits,
        tokens=classifier.lengths(texts),
        model_digest=classifier.manifest.digest,
        data_fingerprint=fingerprint,
        temperature=classifier.temperature,
        columns={name: list(test[name]) for name in test.column_names if name not in own},
        groups=np.array(test[prepared.GROUP], dtype=np.int64) if prepared.GROUP in own else None,
        **evaluator.more_facts(),
    ), seconds


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


def _samples(evaluator: Evaluator, predictions: Predictions) -> list[Sample]:
    texts = predictions.texts
    by_length = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
    chosen = sorted({by_length[int(share * len(texts))] for share in (0.0, 0.5, 0.9)})
    return [evaluator.sample(texts[row], predictions.probabilities[row]) for row in chosen]


def _tell(result: EvaluationResult) -> None:
    metric, found = result.task.primary_metric, result.headline
    logger.info(
        f"{metric.replace('_', ' ')} {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) on "
        f"{result.test_rows:,} held-out rows, baseline {result.baseline[metric].value:.3f}"
    )
