"""The figures of a classifier, as a local `evaluate` module: nothing is fetched from a hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

CONFIDENCE = 0.95


class ClassificationScores(evaluate.Metric):
    """Accuracy with its interval, balanced accuracy, F1, figures per class, confusion matrix.

    `compute(predictions=, references=, labels=)` takes class indices and the number of classes, and gives
    `accuracy`, `accuracy_interval` (Wilson's, 95 %), `balanced_accuracy`, `macro_f1`, `weighted_f1`,
    `per_class` (precision, recall, f1, rows of each) and `confusion_matrix` (rows: true class, columns:
    predicted).
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
            "accuracy": correct / total,
            "accuracy_interval": [interval.low, interval.high],
            "balanced_accuracy": float(balanced_accuracy_score(references, predictions)),
            "macro_f1": float(averaged("macro")[2]),
            "weighted_f1": float(averaged("weighted")[2]),
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(precision, recall, f1, rows, strict=True)
            ],
            "confusion_matrix": matrix.tolist(),
        }
