"""Evaluates models that give a text one class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.errors import InputError
from miniml.evaluation.baseline import Baseline
from miniml.evaluation.evaluators import MISTAKES, TEXTS_A_MISTAKE, Evaluator, curves_of
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import Calibration, Curves, Mistake, Sample
from miniml.evaluation.scores import Scores, in_memory
from miniml.model import calibration, occlusion
from miniml.model.classifier import Probabilities
from miniml.settings.evaluation import EvaluationSettings
from miniml.tasks.single_label import metrics
from miniml.tasks.single_label.baseline import SingleLabelBaseline


class SingleLabelEvaluator(Evaluator):
    """Scores the answers of a model that gives a text one class."""

    def check_order(self, settings: EvaluationSettings) -> None:
        self._ranks = ranks_of(self.labels, settings.ordered_labels)

    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        return np.array(column, dtype=np.int64)

    def scores(self, predictions: Predictions) -> Scores:
        module = metrics.ClassificationScores(**in_memory())
        computed = module.compute(
            predictions=predictions.probabilities,
            references=predictions.references,
            ranks=self._ranks,
            groups=predictions.groups,
        )
        return Scores.of(computed, self.labels)

    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        most_frequent: Probabilities = np.eye(len(self.labels), dtype=np.float32)[
            np.bincount(references).argmax()
        ]
        return most_frequent

    def baseline(self) -> Baseline:
        return SingleLabelBaseline(len(self.labels))

    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        wrong = np.flatnonzero(~predictions.correct)
        surest = wrong[np.argsort(-predictions.probabilities[wrong].max(axis=1), kind="stable")[:MISTAKES]]
        return [
            Mistake(
                row=int(predictions.row_numbers[row]),
                label=self.labels[predictions.references[row]],
                predicted=self.labels[predictions.predicted[row]],
                score=float(predictions.probabilities[row].max()),
                pieces=occlusion.explain(
                    self.classifier, predictions.texts[row], int(predictions.predicted[row]), TEXTS_A_MISTAKE
                ),
            )
            for row in surest
        ]

    def sample(self, text: str, outputs: Probabilities) -> Sample:
        return Sample(text, dict(zip(self.labels, map(float, outputs), strict=True)))

    def calibration(self, predictions: Predictions) -> Calibration | None:
        uncalibrated = calibration.softmax(predictions.logits.astype(np.float64))
        correct, groups, references = predictions.correct, predictions.groups, predictions.references
        before, after = (
            metrics.calibration_error(probabilities.max(axis=1).astype(np.float64), correct, groups)[0]
            for probabilities in (uncalibrated, predictions.probabilities)
        )
        return Calibration(
            temperature=predictions.temperature,
            before=metrics.reliability(uncalibrated, references),
            after=metrics.reliability(predictions.probabilities, references),
            calibration_error_before=before,
            calibration_error_after=after,
            log_loss_before=metrics.log_loss(uncalibrated, references),
            log_loss_after=metrics.log_loss(predictions.probabilities, references),
        )

    def curves(self, predictions: Predictions) -> Curves | None:
        if len(set(predictions.references.tolist())) < 2:
            return None
        true = np.eye(len(self.labels), dtype=bool)[predictions.references]
        return curves_of(predictions.probabilities, true)


def ranks_of(labels: Sequence[str], ordered: str) -> list[int] | None:
    """Returns the rank of each label, from 0; None where the labels have no order.

    Args:
        labels: The classes' names.
        ordered: "yes", "no", or "auto", by which three or more names have an order if they are different numbers, or
            begin with one ("4 stars").

    Raises:
        InputError: `ordered` is "yes", and there are fewer than three labels.
    """
    if ordered == "no":
        return None
    if len(labels) < 3:
        if ordered == "yes":
            raise InputError(
                f"ordered_labels is 'yes', but there are {len(labels)} classes ({', '.join(labels)}), and an order "
                f"needs 3 or more. Set ordered_labels to auto or no."
            )
        return None
    numbers = [re.match(r"\s*([-+]?\d+(?:\.\d+)?)(?![\w.])", label) for label in labels]
    found = [float(number[1]) for number in numbers if number]
    if len(found) == len(set(found)) == len(labels):
        return [sorted(found).index(number) for number in found]
    return list(range(len(labels))) if ordered == "yes" else None
