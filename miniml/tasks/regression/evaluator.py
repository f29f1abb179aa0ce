"""Evaluates models that give a text a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.evaluation.baseline import Baseline
from miniml.evaluation.evaluators import MISTAKES, TEXTS_A_MISTAKE, Evaluator
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import Mistake, Sample, Scatter
from miniml.evaluation.scores import Scores, in_memory
from miniml.model import occlusion
from miniml.model.classifier import Classifier, Probabilities
from miniml.settings.evaluation import EvaluationSettings
from miniml.tasks.regression.baseline import RegressionBaseline
from miniml.tasks.regression.head import RegressionHead
from miniml.tasks.regression.metrics import RegressionScores
from miniml.tasks.regression.predictions import RegressionPredictions

# More dots would hide each other.
SCATTER_POINTS = 500
# The largest accepted difference of a served number from the evaluated one, in standard deviations of the labels.
DEVIATIONS_OFF = 0.05


class RegressionEvaluator(Evaluator):
    """Scores the answers of a model that gives a text a number."""

    def __init__(self, classifier: Classifier, settings: EvaluationSettings) -> None:
        super().__init__(classifier, settings)
        assert isinstance(classifier.head, RegressionHead)
        self._tolerance = DEVIATIONS_OFF * classifier.head.deviation

    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        return np.array(column, dtype=np.float64)

    def scores(self, predictions: Predictions) -> Scores:
        module = RegressionScores(**in_memory())
        return Scores.of(
            module.compute(
                predictions=predictions.predicted,
                references=predictions.references,
                groups=predictions.groups,
            )
        )

    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        return np.array([np.median(references)], dtype=np.float32)

    def baseline(self) -> Baseline:
        return RegressionBaseline(1)

    def majority_share(self, predictions: Predictions) -> float | None:
        return None

    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        assert isinstance(predictions, RegressionPredictions)
        worst = np.argsort(-predictions.errors, kind="stable")[:MISTAKES]
        return [
            Mistake(
                row=int(predictions.row_numbers[row]),
                label=f"{predictions.references[row]:.4g}",
                predicted=f"{predictions.predicted[row]:.4g}",
                score=float(predictions.errors[row]),
                pieces=occlusion.explain(self.classifier, predictions.texts[row], 0, TEXTS_A_MISTAKE),
            )
            for row in worst
        ]

    def sample(self, text: str, outputs: Probabilities) -> Sample:
        return Sample(text, {}, float(outputs[0]), self._tolerance)

    def scatter(self, predictions: Predictions) -> Scatter | None:
        order = np.argsort(predictions.references, kind="stable")
        kept = order[np.unique(np.linspace(0, len(order) - 1, SCATTER_POINTS).astype(int))]
        return Scatter(predictions.references[kept].tolist(), predictions.predicted[kept].tolist())
