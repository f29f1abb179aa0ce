"""The figures of a model that may give a text several labels, or none, as a local `evaluate` module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from miniml.bootstrap import Shares, bootstrapped, share_with_interval
from miniml.heads import THRESHOLD


class MultiLabelScores(evaluate.Metric):
    """Every figure of a multi-label classifier with its bootstrap interval, and figures per label.

    `compute(predictions=, references=, threshold=)` takes probabilities and truths (0 or 1), both of shape
    [rows, labels], and gives `figures`, each a value and its 95 % interval: `subset_accuracy` (all labels of a row
    right; Wilson's interval), `hamming_loss` (share of labels wrong), `micro_f1`, `macro_f1`; and `per_class`:
    precision, recall, f1 and rows of each.
    """

    def _info(self) -> evaluate.MetricInfo:
        shares = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description="Figures of a multi-label classifier",
            citation="",
            inputs_description="Probabilities, and which labels are true",
            features=datasets.Features({"predictions": shares, "references": shares}),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[float]],
        references: Sequence[Sequence[float]],
        threshold: float = THRESHOLD,
    ) -> dict[str, Any]:
        given = np.asarray(predictions) >= threshold
        true = np.asarray(references) >= THRESHOLD
        right = int((given == true).all(axis=1).sum())
        each = precision_recall_fscore_support(true, given, average=None, zero_division=0.0)
        return {
            "figures": {
                "subset_accuracy": share_with_interval(right, len(true)),
                **bootstrapped(_Rows(given.astype(np.float64), true.astype(np.float64))),
            },
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(*each, strict=True)
            ],
        }


class _Rows:
    def __init__(self, given: Shares, true: Shares) -> None:
        self.rows, self.labels = true.shape
        self._given, self._true = given, true
        self._wrong = given != true

    def scores(self, weights: Shares) -> dict[str, Shares]:
        right = 2 * (weights @ (self._given * self._true))
        claimed = weights @ self._given + weights @ self._true
        return {
            "hamming_loss": weights @ self._wrong.mean(axis=1) / self.rows,
            "micro_f1": right.sum(axis=1) / np.maximum(claimed.sum(axis=1), 1),
            # 0 for a label that is nowhere, as in scikit-learn.
            "macro_f1": (right / np.maximum(claimed, 1)).mean(axis=1),
        }
