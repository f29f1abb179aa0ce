"""Evaluates models that give a text any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.evaluation.baseline import Baseline
from miniml.evaluation.evaluators import MISTAKES, TEXTS_A_MISTAKE, Evaluator, curves_of
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import Curves, Mistake, Sample
from miniml.evaluation.scores import Scores, in_memory
from miniml.model import occlusion
from miniml.model.classifier import Classifier, Probabilities
from miniml.settings.evaluation import EvaluationSettings
from miniml.tasks.multi_label.baseline import MultiLabelBaseline
from miniml.tasks.multi_label.head import MultiLabelHead, multi_hot
from miniml.tasks.multi_label.metrics import MultiLabelScores


class MultiLabelEvaluator(Evaluator):
    """Scores the answers of a model that gives a text any number of labels."""

    def __init__(self, classifier: Classifier, settings: EvaluationSettings) -> None:
        super().__init__(classifier, settings)
        assert isinstance(classifier.head, MultiLabelHead)
        self._threshold = classifier.head.threshold

    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        return multi_hot(column, len(self.labels))

    def scores(self, predictions: Predictions) -> Scores:
        module = MultiLabelScores(**in_memory())
        computed = module.compute(
            predictions=predictions.probabilities,
            references=predictions.references.astype(np.float32),
            threshold=self._threshold,
            groups=predictions.groups,
        )
        return Scores.of(computed, self.labels)

    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        rows, counts = np.unique(references, axis=0, return_counts=True)
        most_frequent: Probabilities = rows[counts.argmax()].astype(np.float32)
        return most_frequent

    def baseline(self) -> Baseline:
        return MultiLabelBaseline(len(self.labels))

    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        """Returns the worst rows, each with the label that is most confidently given or denied incorrectly."""
        off = np.abs(predictions.probabilities - predictions.references) * (
            predictions.predicted != predictions.references
        )
        worst = np.argsort(-off.max(axis=1), kind="stable")[:MISTAKES]
        return [
            self._mistake(predictions, int(row), int(off[row].argmax())) for row in worst if off[row].any()
        ]

    def _mistake(self, predictions: Predictions, row: int, place: int) -> Mistake:
        probability = float(predictions.probabilities[row, place])
        denied = bool(predictions.references[row, place])
        (names,) = predictions.names(predictions.references[row : row + 1])
        return Mistake(
            row=int(predictions.row_numbers[row]),
            label=", ".join(names) or "none of the labels",
            predicted=f"not {self.labels[place]}" if denied else self.labels[place],
            score=1 - probability if denied else probability,
            pieces=occlusion.explain(
                self.classifier, predictions.texts[row], place, TEXTS_A_MISTAKE, denied=denied
            ),
        )

    def sample(self, text: str, outputs: Probabilities) -> Sample:
        return Sample(text, dict(zip(self.labels, map(float, outputs), strict=True)))

    def curves(self, predictions: Predictions) -> Curves | None:
        if predictions.references.all() or not predictions.references.any():
            return None
        return curves_of(predictions.probabilities, predictions.references)
