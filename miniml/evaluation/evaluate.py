"""Evaluates a model on the test split: metrics, slices, baseline, comparison, mistakes and speed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import torch

from miniml.champion.challengers import digest_of_test
from miniml.champion.record import NOBODY, Champion
from miniml.data import prepared
from miniml.errors import InputError
from miniml.evaluation.added_metrics import added_metrics
from miniml.evaluation.answering import answer
from miniml.evaluation.champion_comparison import compare_with_champion
from miniml.evaluation.evaluators import Evaluator, evaluator_of
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import Estimate, EvaluationResult, Sample, Speed
from miniml.evaluation.scores import Scores
from miniml.evaluation.slices import slices_of
from miniml.evaluation.smaller_model import SmallerModel, compare_with_full
from miniml.metrics import Answers
from miniml.model.classifier import Classifier
from miniml.model.engines import MissingEngineError
from miniml.model.learnt_texts import LearntTexts
from miniml.processor import threads_within_quota
from miniml.progress import logger
from miniml.sampling import evenly_spaced
from miniml.settings.evaluation import EvaluationSettings

# Texts that are timed one at a time, after a few that warm the engine up.
TIMED_TEXTS, WARMUP_TEXTS = 60, 3


@threads_within_quota()
def evaluate_model(
    model_dir: Path,
    dataset_dir: Path,
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008  # frozen
    predictions_path: Path | None = None,
    champion: Champion = NOBODY,
    smaller: SmallerModel | None = None,
) -> EvaluationResult:
    """Evaluates a model on the split "test" of the dataset that it was trained on.

    Where there is a smaller model, both answer the test. The smaller one is evaluated if it is not inferior, and else
    the full one; `EvaluationResult.model_digest` and `EvaluationResult.compressed` say which, and why. One that is
    bound to an engine which this machine has not is left out (`EvaluationResult.left_out`).

    Args:
        model_dir: The model folder that training wrote.
        dataset_dir: The prepared dataset that the model was trained on.
        settings: How to evaluate.
        predictions_path: Where to write the model's answers (`miniml.evaluation.predictions`); None writes none.
        champion: The model that is served now, which answers the same rows.
        smaller: The smaller model that may replace the one in `model_dir`; None where there is none.

    Returns:
        The metrics with their intervals, and everything else that the gate and the report read.

    Raises:
        ModelFolderError: a model folder, this one or the champion's, is not the one that was signed.
        InputError: the dataset is not the model's, its test rows were all in an earlier training of the model, or the
            settings do not suit the task.
        StoreError: the champion cannot be read from the store.
        ChampionError: the champion cannot be compared with the model.
    """
    splits, summary = prepared.load(dataset_dir, ("train", "test"))
    rows = LearntTexts.read(model_dir).unseen(splits["test"])
    learnt_rows = len(splits["test"]) - len(rows)
    full = evaluated = _Answered.by(model_dir, settings, splits["test"], rows, summary.fingerprint)
    if learnt_rows:
        logger.info(
            f"{learnt_rows:,} test rows are left out: the model that the training began with has seen them"
        )
    compressed, left_out = None, ""
    if smaller:
        try:
            other = _Answered.by(smaller.folder, settings, splits["test"], rows, summary.fingerprint)
        except MissingEngineError as error:
            left_out = f"smaller model: left out, and the full model is evaluated, because {error}"
            logger.warning(left_out)
        else:
            compressed = compare_with_full(smaller, other.predictions, full.predictions)
            evaluated = other if compressed.served else full
    evaluator, predictions = evaluated.evaluator, evaluated.predictions
    classifier = evaluator.classifier
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
        texts_per_second=round(len(predictions.texts) / evaluated.seconds, 2),
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
            champion,
            predictions,
            _digest_of(splits["test"], evaluator, predictions),
            [compressed.digest, compressed.full_digest] if compressed else (),
        ),
        compressed=compressed,
        left_out=left_out,
    )
    _log_summary(result)
    return result


@dataclass(frozen=True)
class _Answered:
    """One model's answers to the test."""

    evaluator: Evaluator
    predictions: Predictions
    seconds: float
    """The seconds that the answers took."""

    @classmethod
    def by(
        cls,
        model_dir: Path,
        settings: EvaluationSettings,
        test: datasets.Dataset,
        rows: npt.NDArray[np.int64],
        fingerprint: str,
    ) -> _Answered:
        classifier = Classifier.load(model_dir)
        _require_trained_on(classifier, fingerprint)
        evaluator = evaluator_of(classifier, settings)
        asked = test.select(rows)
        references = evaluator.references(asked["label"])
        predictions, seconds = answer(classifier, asked, references, "testing", fingerprint)
        if len(rows) < len(test):
            predictions = replace(predictions, rows=rows)
        return cls(evaluator, predictions, seconds)


def _scores(evaluator: Evaluator, predictions: Predictions) -> Scores:
    """Returns the task's own metrics, and the registered ones."""
    own = evaluator.scores(predictions)
    answers = Answers(
        predictions.task, predictions.references, predictions.predicted, predictions.probabilities
    )
    added = added_metrics(answers, predictions.groups)
    return replace(own, figures=own.figures | {name: Estimate(*found) for name, found in added.items()})


def _require_trained_on(classifier: Classifier, fingerprint: str) -> None:
    trained_on = classifier.manifest.data["fingerprint"]
    if fingerprint != trained_on:
        raise InputError(
            f"the dataset has fingerprint {fingerprint[:12]}, the model was trained on {trained_on[:12]}: "
            f"its test rows may have been training rows. Evaluate with the dataset of that training."
        )


def _digest_of(test: datasets.Dataset, evaluator: Evaluator, predictions: Predictions) -> str:
    """Returns the digest of the whole split: which of its rows are left out differs from model to model."""
    return digest_of_test(test["text"], predictions.names(evaluator.references(test["label"])))


def _speed(classifier: Classifier, texts: list[str]) -> Speed:
    """Measures the latency of single texts, evenly spaced over the test."""
    chosen = [texts[row] for row in evenly_spaced(len(texts), TIMED_TEXTS)]
    seconds = []
    for text in [*chosen[:WARMUP_TEXTS], *chosen]:
        start = time.perf_counter()
        classifier.predict_probabilities([text])
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds[-len(chosen) :], [50, 95]) * 1000
    return Speed(classifier.engine.name, torch.get_num_threads(), round(float(p50), 2), round(float(p95), 2))


def _samples(evaluator: Evaluator, predictions: Predictions) -> list[Sample]:
    texts = predictions.texts
    by_length = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
    chosen = sorted({by_length[int(fraction * len(texts))] for fraction in (0.0, 0.5, 0.9)})
    return [evaluator.sample(texts[row], predictions.probabilities[row]) for row in chosen]


def _log_summary(result: EvaluationResult) -> None:
    metric, found = result.task.primary_metric, result.headline
    logger.info(
        f"{metric.replace('_', ' ')} {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) on "
        f"{result.test_rows:,} held-out rows, baseline {result.baseline[metric].value:.3f}"
    )
