"""The figures of a classifier, as a local `evaluate` module: nothing is fetched from a hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from miniml.bootstrap import Shares, bootstrapped, share_with_interval, summed
from miniml.evaluation_result import ReliabilityBin
from miniml.folders import user_cache

# Bins of equal width, by the probability of the answer; 15 is what most papers take.
CALIBRATION_BINS = 15
# The least probability that the log loss takes for itself: scikit-learn's, for float32.
LEAST = float(np.finfo(np.float32).eps)


def in_memory() -> dict[str, Any]:
    """How a module of `evaluate` is made that writes nothing; a folder it makes all the same, and gets one of ours."""
    return {"keep_in_memory": True, "cache_dir": str(user_cache() / "evaluate")}


class ClassificationScores(evaluate.Metric):
    """Every figure of a single-label classifier with its interval, figures per class, confusion matrix.

    `compute(predictions=, references=, ranks=)` takes probabilities, shape [rows, labels], and class indices;
    `ranks`, where the classes have an order, is the place of each in it. It gives

    - `figures`, each a value and its 95 % interval: `accuracy` (Wilson's interval, which is honest where all
      rows are right), and, bootstrapped by rows, `balanced_accuracy`, `macro_f1`, `weighted_f1`, `mcc`, `log_loss`,
      `roc_auc` and `pr_auc` (means over the classes, each against the rest; left out where no class has both rows
      of its own and others), `calibration_error` (expected calibration error in 15 bins of equal width) and, with
      `ranks`, `mean_absolute_error` (in steps of the order) and `off_by_one_accuracy`;
    - `per_class`: precision, recall, f1 and rows of each;
    - `confusion_matrix` (rows: true class, columns: predicted).
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Figures of a single-label classifier",
            citation="",
            inputs_description="Probabilities and class indices",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[float]],
        references: Sequence[int],
        ranks: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        rows = _Rows(np.asarray(predictions, dtype=np.float64), np.asarray(references), ranks)
        matrix = confusion_matrix(rows.references, rows.predicted, labels=range(rows.labels))
        each = precision_recall_fscore_support(
            rows.references, rows.predicted, labels=range(rows.labels), average=None, zero_division=0.0
        )
        return {
            "figures": {
                "accuracy": share_with_interval(int(matrix.trace()), int(matrix.sum())),
                **bootstrapped(rows),
            },
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(*each, strict=True)
            ],
            "confusion_matrix": matrix.tolist(),
        }


def reliability(probabilities: Shares, references: npt.NDArray[np.int64]) -> list[ReliabilityBin]:
    """How often answers of each probability are right; bins without rows are left out."""
    rows = _Rows(np.asarray(probabilities, dtype=np.float64), references)
    found = []
    for number in np.unique(rows.bins):
        inside = rows.bins == number
        found.append(
            ReliabilityBin(
                float(rows.confidence[inside].mean()), float(rows.right[inside].mean()), int(inside.sum())
            )
        )
    return found


def log_loss(probabilities: Shares, references: npt.NDArray[np.int64]) -> float:
    """The mean of -log(probability of the true class)."""
    return float(_Rows(np.asarray(probabilities, dtype=np.float64), references).losses.mean())


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """By how much, on average over the rows, the probability of an answer misses how often such answers are right."""
    total = sum(one.rows for one in bins)
    return sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / total


class _Rows:
    """What of each test row the figures are made of, so that drawing rows again is only weighing them anew."""

    def __init__(
        self,
        probabilities: Shares,
        references: npt.NDArray[np.int64],
        ranks: Sequence[int] | None = None,
    ) -> None:
        self.rows, self.labels = probabilities.shape
        self.references = references
        self.predicted = probabilities.argmax(axis=1)
        self.right = self.predicted == references
        self.confidence = probabilities.max(axis=1)
        self.bins = np.minimum((self.confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        of_truth = probabilities[np.arange(self.rows), references]
        self.losses = -np.log(np.clip(of_truth, LEAST, 1 - LEAST))
        self.means = {"log_loss": self.losses}
        if ranks is not None:
            places = np.asarray(ranks)
            steps = np.abs(places[self.predicted] - places[references])
            self.means |= {"mean_absolute_error": steps, "off_by_one_accuracy": steps <= 1}
        self.rankings = [
            _Ranking(probabilities[:, label], references == label) for label in range(self.labels)
        ]

    def scores(self, weights: Shares) -> dict[str, Shares]:
        """Each figure, shape [draws], for `weights`, shape [draws, rows]: how often a draw has each row."""
        draws = len(weights)
        cells = self.references * self.labels + self.predicted
        matrices = _weighed(cells, weights, self.labels**2).reshape(draws, self.labels, self.labels)
        gaps = _weighed(self.bins, weights * (self.confidence - self.right), CALIBRATION_BINS)
        areas = np.array([ranking.areas(weights) for ranking in self.rankings])  # labels, 2, draws
        roc_auc, pr_auc = _mean_of_known(areas)
        return {
            **_of_matrices(matrices),
            **{name: weights @ values / self.rows for name, values in self.means.items()},
            "roc_auc": roc_auc,
            "pr_auc": pr_auc,
            "calibration_error": np.abs(gaps).sum(axis=1) / self.rows,
        }


class _Ranking:
    """The rows by the probability of one class, the highest first; equal ones stand and fall together."""

    def __init__(self, scores: Shares, positive: npt.NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked, positive = scores[self._order], positive[self._order]
        self._positive = np.flatnonzero(positive)
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        # Only where a positive row stands do the areas grow.
        of_positive = np.searchsorted(ends, self._positive)
        groups, first = np.unique(of_positive, return_index=True)
        self._ends = ends[groups]
        self._starts = np.where(groups > 0, ends[groups - 1] + 1, 0)
        self._last = np.append(first[1:], len(self._positive))  # positive rows up to the end of each group

    def areas(self, weights: Shares) -> tuple[Shares, Shares]:
        """The areas under the ROC and the precision-recall curve (average precision), shape [draws] each.

        nan where a draw has only rows of the class, or none.
        """
        ranked = np.take(weights, self._order, axis=1)
        above = summed(ranked)
        positives_above = summed(ranked[:, self._positive])
        true, before = positives_above[:, self._last], positives_above[:, np.append(0, self._last[:-1])]
        all_at_end, all_at_start = above[:, self._ends + 1], above[:, self._starts]
        positives, rows = positives_above[:, -1], above[:, -1]
        gained = true - before
        wrongly_above = (all_at_end - true + all_at_start - before) / 2
        negatives = rows - positives
        told = (positives > 0) & (negatives > 0)
        roc = (gained * (negatives[:, None] - wrongly_above)).sum(axis=1)
        average = (gained * (true / np.maximum(all_at_end, 1))).sum(axis=1)
        return (
            np.where(told, roc / np.maximum(positives * negatives, 1), np.nan),
            np.where(told, average / np.maximum(positives, 1), np.nan),
        )


def _weighed(places: npt.NDArray[np.int64], weights: Shares, count: int) -> Shares:
    """The sum of each draw's weights by place, shape [draws, count]."""
    return np.array([np.bincount(places, weights=draw, minlength=count) for draw in weights])


def _mean_of_known(areas: Shares) -> Shares:
    """The mean over the classes that a draw can tell something of; nan where that is none."""
    known = np.isfinite(areas)
    count = known.sum(axis=0)
    total = np.where(known, areas, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _of_matrices(matrices: Shares) -> dict[str, Shares]:
    """Of confusion matrices, shape [n, labels, labels]; a class without rows counts in no mean."""
    right = matrices.diagonal(axis1=1, axis2=2)
    rows, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    total = rows.sum(axis=1)
    recall = right / np.maximum(rows, 1)
    f1 = 2 * right / np.maximum(rows + predicted, 1)
    present, known = rows > 0, rows + predicted > 0
    agreement = right.sum(axis=1) * total - (rows * predicted).sum(axis=1)
    spread = (total**2 - (rows**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    return {
        "balanced_accuracy": (recall * present).sum(axis=1) / present.sum(axis=1),
        "macro_f1": (f1 * known).sum(axis=1) / known.sum(axis=1),
        "weighted_f1": (f1 * rows).sum(axis=1) / total,
        # 0 where all rows, or all answers, are of one class, as in scikit-learn.
        "mcc": np.where(spread > 0, agreement / np.sqrt(np.maximum(spread, 1)), 0.0),
    }
