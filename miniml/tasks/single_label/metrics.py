"""The metrics of one class a text, as a local `evaluate` module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from miniml.evaluation.bootstrap import (
    CONFIDENCE,
    DOUBTS,
    NOTHING,
    Groups,
    Interval,
    Shares,
    bootstrapped,
    share_of,
    summed,
)
from miniml.evaluation.result import ReliabilityBin

# Bins of equal width, by the probability of the answer; 15 is what most papers take.
CALIBRATION_BINS = 15
# The least probability that the log loss takes for itself: scikit-learn's, for float32.
EPS = float(np.finfo(np.float32).eps)
CALIBRATION_ERROR = "calibration_error"
# Of the noise in a calibration error: their 95 % quantile is then exact within some 2 % of itself.
NOISE_DRAWS = 2_000


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
        groups: Groups = None,
    ) -> dict[str, Any]:
        rows = _Rows(np.asarray(predictions, dtype=np.float64), np.asarray(references), ranks)
        matrix = confusion_matrix(rows.references, rows.predicted, labels=range(rows.labels))
        each = precision_recall_fscore_support(
            rows.references, rows.predicted, labels=range(rows.labels), average=None, zero_division=0.0
        )
        return {
            "figures": {
                "accuracy": share_of(rows.right, groups),
                **bootstrapped(rows.with_doubts(), groups),
                **rows.off_by_one(groups),
                CALIBRATION_ERROR: calibration_error(rows.confidence, rows.right, groups),
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
    bins = _bins(rows.confidence)
    found = []
    for number in np.unique(bins):
        inside = bins == number
        found.append(
            ReliabilityBin(
                float(rows.confidence[inside].mean()), float(rows.right[inside].mean()), int(inside.sum())
            )
        )
    return found


def log_loss(probabilities: Shares, references: npt.NDArray[np.int64]) -> float:
    """The mean of -log(probability of the true class)."""
    return float(_Rows(np.asarray(probabilities, dtype=np.float64), references).losses.mean())


def calibration_error(confidence: Shares, right: npt.NDArray[np.bool_], groups: Groups = None) -> Interval:
    """By how much, on average over the rows, the probability of an answer misses how often such answers are right.

    Of what the bins show, part is noise: of a model whose every probability is true, few answers are right by just so
    many. The value is what is left of the gaps where the squares that noise alone would make are taken from theirs
    (Kumar et al., 2019); it is 0 where noise explains them all. The noise of all bins together, which simulation tells,
    makes the interval: whatever the true gaps are, those that are seen differ by no more in 95 % of all tests. Where
    it begins above 0, the probabilities are shown not to be true.

    Args:
        confidence: The probability of each row's answer, shape [rows].
        right: Whether it is right, shape [rows].
        groups: The group of each row.
    """
    bins = _bins(confidence)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled, rows = rows > 0, rows[rows > 0]
    gaps = np.bincount(bins, confidence - right, CALIBRATION_BINS)[filled]  # in rows
    noise = _noise(bins, confidence, right, groups)[np.ix_(filled, filled)]
    seen = float(np.abs(gaps).sum()) / len(bins)
    explained = float((noise.diagonal() / rows).sum() / max(NOTHING, (gaps**2 / rows).sum()))
    value = seen * math.sqrt(max(0.0, 1 - explained))
    draws = np.random.default_rng(0).multivariate_normal(
        np.zeros(len(rows)), noise, NOISE_DRAWS, method="eigh"
    )
    reach = float(np.quantile(np.abs(draws).sum(axis=1), CONFIDENCE)) / len(bins)
    return value, min(value, max(0.0, seen - reach)), min(1.0, value + reach)


def _noise(
    bins: npt.NDArray[np.int64], confidence: Shares, right: npt.NDArray[np.bool_], groups: Groups
) -> Shares:
    """How the sums of confidence less rightness in the bins vary from test to test: covariances, [bins, bins].

    As the rows tell; and at least as much as they would were each as often right as it says. For of ten answers of 95 %
    that are all right, the rows would say that nothing varies.
    """
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    off = confidence - right
    off = off - (np.bincount(bins, off, CALIBRATION_BINS) / np.maximum(rows, 1))[bins]
    expected = np.bincount(bins, confidence * (1 - confidence), CALIBRATION_BINS)
    if groups is None:
        # Where a bin has few rows, their own spread is too small by what its mean has taken.
        alone: Shares = np.diag(np.maximum(np.bincount(bins, off**2, CALIBRATION_BINS), expected))
        return alone
    _, group_of = np.unique(groups, return_inverse=True)
    count = int(group_of.max()) + 1
    sums = np.zeros((count, CALIBRATION_BINS))
    np.add.at(sums, (group_of, bins), off)
    found = sums.T @ sums * (count / max(1, count - 1))
    together: Shares = found + np.diag(np.maximum(0.0, expected - found.diagonal()))
    return together


def _bins(confidence: Shares) -> npt.NDArray[np.int64]:
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _evenly(places: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """`most` of them at most, from the first to the last."""
    chosen: npt.NDArray[np.int64] = places[
        np.linspace(0, len(places) - 1, min(len(places), most)).astype(int)
    ]
    return chosen


class _Rows:
    """What of each test row the figures are made of, so that drawing rows again is only weighing them anew."""

    def __init__(
        self,
        probabilities: Shares,
        references: npt.NDArray[np.int64],
        ranks: Sequence[int] | None = None,
        doubts: int = 0,
    ) -> None:
        self.rows, self.labels = probabilities.shape
        self.doubts = doubts
        self._probabilities, self._ranks = probabilities, ranks
        self.references = references
        self.predicted = probabilities.argmax(axis=1)
        self.right = self.predicted == references
        self.confidence = probabilities.max(axis=1)
        of_truth = probabilities[np.arange(self.rows), references]
        self.losses = -np.log(np.clip(of_truth, EPS, 1 - EPS))
        self.means = {"log_loss": self.losses}
        if ranks is not None:
            places = np.asarray(ranks)
            self.means["mean_absolute_error"] = np.abs(places[self.predicted] - places[references])
        self.rankings = [
            _Ranking(probabilities[:, label], references == label) for label in range(self.labels)
        ]

    def with_doubts(self) -> _Rows:
        """These rows, and some of each class as they would be had they been answered otherwise."""
        classes, second = np.unique(self.references), np.argsort(self._probabilities, axis=1)[:, -2:][:, 0]
        of_each = max(1, DOUBTS // len(classes))
        chosen = np.concatenate([_evenly(np.flatnonzero(self.references == one), of_each) for one in classes])
        otherwise = np.where(self.right, second, self.predicted)[chosen]
        return _Rows(
            np.concatenate([self._probabilities, self._probabilities[chosen]]),
            np.concatenate([self.references, otherwise]),
            self._ranks,
            len(chosen),
        )

    def off_by_one(self, groups: Groups) -> dict[str, Interval]:
        """How often the answer is the class or one beside it, where classes have an order."""
        steps = self.means.get("mean_absolute_error")
        return {} if steps is None else {"off_by_one_accuracy": share_of(steps <= 1, groups)}

    def scores(self, weights: Shares) -> dict[str, Shares]:
        """Each figure, shape [draws], for `weights`, shape [draws, rows]: how often a draw has each row."""
        draws, drawn = len(weights), weights.sum(axis=1)
        cells = self.references * self.labels + self.predicted
        matrices = _weighed(cells, weights, self.labels**2).reshape(draws, self.labels, self.labels)
        areas = np.array([ranking.areas(weights) for ranking in self.rankings])  # labels, 2, draws
        roc_auc, pr_auc = _mean_of_known(areas)
        return {
            **_of_matrices(matrices),
            **{name: weights @ values / drawn for name, values in self.means.items()},
            "roc_auc": roc_auc,
            "pr_auc": pr_auc,
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
        average = (gained * (true / np.maximum(all_at_end, NOTHING))).sum(axis=1)
        return (
            np.where(told, roc / np.maximum(positives * negatives, NOTHING), np.nan),
            np.where(told, average / np.maximum(positives, NOTHING), np.nan),
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
    recall = right / np.maximum(rows, NOTHING)
    f1 = 2 * right / np.maximum(rows + predicted, NOTHING)
    present, known = rows > 0, rows + predicted > 0
    agreement = right.sum(axis=1) * total - (rows * predicted).sum(axis=1)
    spread = (total**2 - (rows**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    return {
        "balanced_accuracy": (recall * present).sum(axis=1) / present.sum(axis=1),
        "macro_f1": (f1 * known).sum(axis=1) / known.sum(axis=1),
        "weighted_f1": (f1 * rows).sum(axis=1) / total,
        # 0 where all rows, or all answers, are of one class, as in scikit-learn.
        "mcc": np.where(spread > 0, agreement / np.sqrt(np.maximum(spread, NOTHING)), 0.0),
    }
