"""The figures of a classifier, as a local `evaluate` module: nothing is fetched from a hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

CONFIDENCE = 0.95
RESAMPLES = 1000


class ClassificationScores(evaluate.Metric):
    """Accuracy with its interval, balanced accuracy, F1, figures per class, confusion matrix.

    `compute(predictions=, references=, labels=)` takes class indices and the number of classes, and gives
    `figures` (value and 95 % interval of `accuracy`, Wilson's; of `balanced_accuracy`, `macro_f1` and
    `weighted_f1`, bootstrapped), `per_class` (precision, recall, f1, rows of each) and
    `confusion_matrix` (rows: true class, columns: predicted).
    """

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Figures of a single-label classifier",
            citation="",
            inputs_description="Class indices",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: Sequence[int], references: Sequence[int], labels: int) -> dict[str, Any]:
        classes = list(range(labels))
        matrix = confusion_matrix(references, predictions, labels=classes)
        correct, total = int(matrix.trace()), int(matrix.sum())
        interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")

        def averaged(average: str | None) -> Any:
            return precision_recall_fscore_support(
                references, predictions, labels=classes, average=average, zero_division=0.0
            )

        precision, recall, f1, rows = averaged(None)
        return {
            "figures": {
                "accuracy": (correct / total, interval.low, interval.high),
                **_bootstrapped(matrix),
            },
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(precision, recall, f1, rows, strict=True)
            ],
            "confusion_matrix": matrix.tolist(),
        }


def _bootstrapped(matrix: npt.NDArray[np.int64]) -> dict[str, tuple[float, float, float]]:
    """Value and interval of what follows from the confusion matrix: drawing rows again is drawing its cells again."""
    total = int(matrix.sum())
    draws = np.random.default_rng(0).multinomial(total, (matrix / total).ravel(), size=RESAMPLES)
    edges = np.array([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    resampled = _scores(draws.reshape(-1, *matrix.shape))
    found = {}
    for name, value in _scores(matrix[None]).items():
        low, high = np.quantile(resampled[name], edges)
        found[name] = float(value[0]), float(low), float(high)
    return found


def _scores(matrices: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Of confusion matrices, shape [n, labels, labels]; a class without rows counts in no mean."""
    right = matrices.diagonal(axis1=1, axis2=2)
    rows, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    recall = right / np.maximum(rows, 1)
    f1 = 2 * right / np.maximum(rows + predicted, 1)
    present, known = rows > 0, rows + predicted > 0
    return {
        "balanced_accuracy": (recall * present).sum(axis=1) / present.sum(axis=1),
        "macro_f1": (f1 * known).sum(axis=1) / known.sum(axis=1),
        "weighted_f1": (f1 * rows).sum(axis=1) / rows.sum(axis=1),
    }
