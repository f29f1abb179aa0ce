"""The figures of a model that may give a text several labels, or none, as a local `evaluate` module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

from miniml.evaluation.bootstrap import DOUBTS, NOTHING, Groups, Shares, bootstrapped, share_of
from miniml.tasks.multi_label.head import THRESHOLD


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
        groups: Groups = None,
    ) -> dict[str, Any]:
        given = np.asarray(predictions) >= threshold
        true = np.asarray(references) >= THRESHOLD
        right = (given == true).all(axis=1)
        each = precision_recall_fscore_support(true, given, average=None, zero_division=0.0)
        return {
            "figures": {
                "subset_accuracy": share_of(right, groups),
                **bootstrapped(_Rows.with_doubts(given, true), groups),
            },
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(*each, strict=True)
            ],
        }


class _Rows:
    def __init__(self, given: Shares, true: Shares, doubts: int) -> None:
        self.rows, self.labels = true.shape
        self.doubts = doubts
        self._given, self._true = given, true
        self._wrong = given != true

    @classmethod
    def with_doubts(cls, given: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> Self:
        """The rows, and some as they would be had the text one label more, or one less: each label in turn."""
        rows, labels = true.shape
        chosen = np.resize(np.arange(rows), max(labels, DOUBTS))
        turned = np.arange(len(chosen)) % labels
        otherwise = true[chosen]
        otherwise[np.arange(len(chosen)), turned] ^= True
        return cls(
            np.concatenate([given, given[chosen]]).astype(np.float64),
            np.concatenate([true, otherwise]).astype(np.float64),
            len(chosen),
        )

    def scores(self, weights: Shares) -> dict[str, Shares]:
        right = 2 * (weights @ (self._given * self._true))
        claimed = weights @ self._given + weights @ self._true
        return {
            "hamming_loss": weights @ self._wrong.mean(axis=1) / weights.sum(axis=1),
            "micro_f1": right.sum(axis=1) / np.maximum(claimed.sum(axis=1), NOTHING),
            # 0 for a label that is nowhere, as in scikit-learn.
            "macro_f1": (right / np.maximum(claimed, NOTHING)).mean(axis=1),
        }
