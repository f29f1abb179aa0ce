"""Computes the metrics of any number of labels for each text, as a local module of the `evaluate` library.

For the definitions see https://scikit-learn.org/stable/modules/model_evaluation.html#multiclass-and-multilabel-classification
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

from miniml.evaluation.bootstrap import (
    MIN_DIVISOR,
    PSEUDO_ROWS,
    Floats,
    Groups,
    bootstrap_intervals,
    fraction_with_interval,
)
from miniml.tasks.multi_label.head import THRESHOLD


class MultiLabelScores(evaluate.Metric):
    """Computes the metrics of a multi-label classifier with their intervals, and metrics per label.

    `compute(predictions=, references=, threshold=)` takes probabilities and truths (0 or 1), both of shape
    [rows, labels]. It returns

    - `figures`, each a value and its 95 % interval: `subset_accuracy` (all labels of a row correct; Wilson's interval),
      and with bootstrap intervals `hamming_loss` (the fraction of labels that are wrong), `micro_f1` and `macro_f1`
    - `per_class`: precision, recall, f1 and rows of each label
    """

    def _info(self) -> evaluate.MetricInfo:
        floats = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description="Metrics of a multi-label classifier",
            citation="",
            inputs_description="Probabilities, and which labels are true",
            features=datasets.Features({"predictions": floats, "references": floats}),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[float]],
        references: Sequence[Sequence[float]],
        threshold: float = THRESHOLD,
        groups: Groups = None,
    ) -> dict[str, Any]:
        given = np.asarray(predictions) >= threshold
        true = np.asarray(references) >= THRESHOLD
        correct = (given == true).all(axis=1)
        each = precision_recall_fscore_support(true, given, average=None, zero_division=0.0)
        return {
            "figures": {
                "subset_accuracy": fraction_with_interval(correct, groups),
                **bootstrap_intervals(_Rows.with_pseudo_rows(given, true), groups),
            },
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(*each, strict=True)
            ],
        }


class _Rows:
    def __init__(self, given: Floats, true: Floats, pseudo_rows: int) -> None:
        self.rows, self.labels = true.shape
        self.pseudo_rows = pseudo_rows
        self._given, self._true = given, true
        self._wrong = given != true

    @classmethod
    def with_pseudo_rows(cls, given: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> Self:
        """Returns the rows and pseudo-rows, whose text has one label more or one less, each label in turn."""
        rows, labels = true.shape
        chosen = np.resize(np.arange(rows), max(labels, PSEUDO_ROWS))
        turned = np.arange(len(chosen)) % labels
        otherwise = true[chosen]
        otherwise[np.arange(len(chosen)), turned] ^= True
        return cls(
            np.concatenate([given, given[chosen]]).astype(np.float64),
            np.concatenate([true, otherwise]).astype(np.float64),
            len(chosen),
        )

    def scores(self, weights: Floats) -> dict[str, Floats]:
        correct = 2 * (weights @ (self._given * self._true))
        claimed = weights @ self._given + weights @ self._true
        return {
            "hamming_loss": weights @ self._wrong.mean(axis=1) / weights.sum(axis=1),
            "micro_f1": correct.sum(axis=1) / np.maximum(claimed.sum(axis=1), MIN_DIVISOR),
            # 0 for a label that is nowhere, as in scikit-learn.
            "macro_f1": (correct / np.maximum(claimed, MIN_DIVISOR)).mean(axis=1),
        }
