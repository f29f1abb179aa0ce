"""Computes the metrics of one class for each text, as a local module of the `evaluate` library.

Sources:

- Expected calibration error: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015,
  https://doi.org/10.1609/aaai.v29i1.9602; its debiasing: Kumar et al., "Verified Uncertainty Calibration", 2019,
  https://arxiv.org/abs/1909.10155
- Area under the ROC curve: Hanley and McNeil, "The Meaning and Use of the Area under a Receiver Operating
  Characteristic (ROC) Curve", 1982, https://doi.org/10.1148/radiology.143.1.7063747
- Average precision: https://scikit-learn.org/stable/modules/generated/sklearn.metrics.average_precision_score.html
- Matthews correlation of several classes: Gorodkin, "Comparing Two K-category Assignments by a K-category Correlation
  Coefficient", 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006
"""

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
    MIN_DIVISOR,
    PSEUDO_ROWS,
    Floats,
    Groups,
    Interval,
    bootstrap_intervals,
    fraction_with_interval,
    summed,
)
from miniml.evaluation.result import ReliabilityBin
from miniml.sampling import evenly_spaced

# Bins of equal width, by the probability of the answer; 15 as in most papers.
CALIBRATION_BINS = 15
# Probabilities are clipped to it in the log loss, as scikit-learn does for float32.
EPS = float(np.finfo(np.float32).eps)
CALIBRATION_ERROR = "calibration_error"
# Simulations of the noise in a calibration error: their 95 % quantile is then within some 2 % of the true one.
NOISE_DRAWS = 2_000


class ClassificationScores(evaluate.Metric):
    """Computes the metrics of a single-label classifier with their intervals, metrics per class, confusion matrix.

    `compute(predictions=, references=, ranks=)` takes probabilities, shape [rows, labels], and class indices;
    `ranks`, where the classes have an order, is the rank of each. It returns

    - `figures`, each a value and its 95 % interval: `accuracy` (Wilson's, which also holds where all rows are correct);
      with bootstrap intervals `balanced_accuracy`, `macro_f1`, `weighted_f1`, `mcc`, `log_loss`, `roc_auc` and `pr_auc`
      (means over the classes, each against the rest; left out where no class has both rows of its own and others);
      `calibration_error` (expected calibration error in 15 bins of equal width); and, with `ranks`,
      `mean_absolute_error` (in steps of the order) and `off_by_one_accuracy`
    - `per_class`: precision, recall, f1 and rows of each class
    - `confusion_matrix`: rows are true classes, columns predicted ones
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Metrics of a single-label classifier",
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
                "accuracy": fraction_with_interval(rows.correct, groups),
                **bootstrap_intervals(rows.with_pseudo_rows(), groups),
                **rows.off_by_one(groups),
                CALIBRATION_ERROR: calibration_error(rows.confidence, rows.correct, groups),
            },
            "per_class": [
                {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
                for p, r, f, n in zip(*each, strict=True)
            ],
            "confusion_matrix": matrix.tolist(),
        }


def reliability(probabilities: Floats, references: npt.NDArray[np.int64]) -> list[ReliabilityBin]:
    """Computes the points of a reliability diagram: how often answers of each probability are correct.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, https://arxiv.org/abs/1706.04599

    Args:
        probabilities: Shape [rows, labels].
        references: The index of each row's class, shape [rows].

    Returns:
        A point for each bin that has rows.
    """
    rows = _Rows(np.asarray(probabilities, dtype=np.float64), references)
    bins = _bins(rows.confidence)
    found = []
    for number in np.unique(bins):
        inside = bins == number
        found.append(
            ReliabilityBin(
                float(rows.confidence[inside].mean()), float(rows.correct[inside].mean()), int(inside.sum())
            )
        )
    return found


def log_loss(probabilities: Floats, references: npt.NDArray[np.int64]) -> float:
    """Returns the mean of -log(probability of the true class).

    Args:
        probabilities: Shape [rows, labels].
        references: The index of each row's class, shape [rows].
    """
    return float(_Rows(np.asarray(probabilities, dtype=np.float64), references).losses.mean())


def calibration_error(confidence: Floats, correct: npt.NDArray[np.bool_], groups: Groups = None) -> Interval:
    """Returns the expected calibration error, debiased, with its 95 % interval.

    It is the mean over the rows of the gap between an answer's probability and the fraction of such answers that is
    correct (Naeini et al., 2015). Even a perfectly calibrated model has gaps, by chance. So the squares that chance
    alone would make are subtracted from the squared gaps (Kumar et al., 2019); the value is 0 where chance explains
    them all. The interval comes from simulating the noise of all bins together: the observed gaps differ from the true
    ones by no more in 95 % of all tests. An interval that begins above 0 shows that the model is miscalibrated.

    Args:
        confidence: The probability of each row's answer, shape [rows].
        correct: Whether the answer is correct, shape [rows].
        groups: The rows' groups.
    """
    bins = _bins(confidence)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled, rows = rows > 0, rows[rows > 0]
    gaps = np.bincount(bins, confidence - correct, CALIBRATION_BINS)[filled]  # In rows.
    noise = _noise(bins, confidence, correct, groups)[np.ix_(filled, filled)]
    seen = float(np.abs(gaps).sum()) / len(bins)
    explained = float((noise.diagonal() / rows).sum() / max(MIN_DIVISOR, (gaps**2 / rows).sum()))
    value = seen * math.sqrt(max(0.0, 1 - explained))
    draws = np.random.default_rng(0).multivariate_normal(
        np.zeros(len(rows)), noise, NOISE_DRAWS, method="eigh"
    )
    half = float(np.quantile(np.abs(draws).sum(axis=1), CONFIDENCE)) / len(bins)
    return value, min(value, max(0.0, seen - half)), min(1.0, value + half)


def _noise(
    bins: npt.NDArray[np.int64], confidence: Floats, correct: npt.NDArray[np.bool_], groups: Groups
) -> Floats:
    """Estimates the covariance of the bins' gaps, in rows, over tests: shape [bins, bins].

    Its diagonal is at least that of a calibrated model; the sample variance alone would be 0 for ten answers of 95 %
    that are all correct.
    """
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    off = confidence - correct
    off = off - (np.bincount(bins, off, CALIBRATION_BINS) / np.maximum(rows, 1))[bins]
    expected = np.bincount(bins, confidence * (1 - confidence), CALIBRATION_BINS)
    if groups is None:
        # The sample variance of few rows is too small, because it is around their own mean.
        alone: Floats = np.diag(np.maximum(np.bincount(bins, off**2, CALIBRATION_BINS), expected))
        return alone
    _, group_of = np.unique(groups, return_inverse=True)
    count = int(group_of.max()) + 1
    sums = np.zeros((count, CALIBRATION_BINS))
    np.add.at(sums, (group_of, bins), off)
    found = sums.T @ sums * (count / max(1, count - 1))
    together: Floats = found + np.diag(np.maximum(0.0, expected - found.diagonal()))
    return together


def _bins(confidence: Floats) -> npt.NDArray[np.int64]:
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _evenly(places: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Returns at most `most` of the rows, evenly spaced."""
    chosen: npt.NDArray[np.int64] = places[evenly_spaced(len(places), most)]
    return chosen


class _Rows:
    """The parts of the metrics by row, so that a resample only needs other weights."""

    def __init__(
        self,
        probabilities: Floats,
        references: npt.NDArray[np.int64],
        ranks: Sequence[int] | None = None,
        pseudo_rows: int = 0,
    ) -> None:
        self.rows, self.labels = probabilities.shape
        self.pseudo_rows = pseudo_rows
        self._probabilities, self._ranks = probabilities, ranks
        self.references = references
        self.predicted = probabilities.argmax(axis=1)
        self.correct = self.predicted == references
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

    def with_pseudo_rows(self) -> _Rows:
        """Returns these rows and pseudo-rows: some of each class, as if they had been answered differently."""
        classes, second = np.unique(self.references), np.argsort(self._probabilities, axis=1)[:, -2:][:, 0]
        of_each = max(1, PSEUDO_ROWS // len(classes))
        chosen = np.concatenate([_evenly(np.flatnonzero(self.references == one), of_each) for one in classes])
        otherwise = np.where(self.correct, second, self.predicted)[chosen]
        return _Rows(
            np.concatenate([self._probabilities, self._probabilities[chosen]]),
            np.concatenate([self.references, otherwise]),
            self._ranks,
            len(chosen),
        )

    def off_by_one(self, groups: Groups) -> dict[str, Interval]:
        """Returns how often the answer is at most one rank off, where classes have an order."""
        steps = self.means.get("mean_absolute_error")
        return {} if steps is None else {"off_by_one_accuracy": fraction_with_interval(steps <= 1, groups)}

    def scores(self, weights: Floats) -> dict[str, Floats]:
        """Computes the metrics of each draw, shape [draws], from weights of shape [draws, rows]."""
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
    """The rows in falling order of one class's probability; equal ones pass a threshold together."""

    def __init__(self, scores: Floats, positive: npt.NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked, positive = scores[self._order], positive[self._order]
        self._positive = np.flatnonzero(positive)
        ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        # The areas only grow at positive rows.
        of_positive = np.searchsorted(ends, self._positive)
        groups, first = np.unique(of_positive, return_index=True)
        self._ends = ends[groups]
        self._starts = np.where(groups > 0, ends[groups - 1] + 1, 0)
        self._last = np.append(first[1:], len(self._positive))  # positive rows up to the end of each group

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """Returns the areas under the ROC and the precision-recall curve (average precision), shape [draws] each.

        They are nan where a draw has only rows of the class, or none.
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
        known = (positives > 0) & (negatives > 0)
        roc = (gained * (negatives[:, None] - wrongly_above)).sum(axis=1)
        average = (gained * (true / np.maximum(all_at_end, MIN_DIVISOR))).sum(axis=1)
        return (
            np.where(known, roc / np.maximum(positives * negatives, MIN_DIVISOR), np.nan),
            np.where(known, average / np.maximum(positives, MIN_DIVISOR), np.nan),
        )


def _weighed(places: npt.NDArray[np.int64], weights: Floats, count: int) -> Floats:
    """Sums each draw's weights by place, to shape [draws, count]."""
    return np.array([np.bincount(places, weights=draw, minlength=count) for draw in weights])


def _mean_of_known(areas: Floats) -> Floats:
    """Averages over the classes whose area is defined in a draw; nan where there is none."""
    known = np.isfinite(areas)
    count = known.sum(axis=0)
    total = np.where(known, areas, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _of_matrices(matrices: Floats) -> dict[str, Floats]:
    """Computes metrics from confusion matrices, shape [draws, labels, labels]; means leave out classes without rows."""
    correct = matrices.diagonal(axis1=1, axis2=2)
    rows, predicted = matrices.sum(axis=2), matrices.sum(axis=1)
    total = rows.sum(axis=1)
    recall = correct / np.maximum(rows, MIN_DIVISOR)
    f1 = 2 * correct / np.maximum(rows + predicted, MIN_DIVISOR)
    present, known = rows > 0, rows + predicted > 0
    agreement = correct.sum(axis=1) * total - (rows * predicted).sum(axis=1)
    spread = (total**2 - (rows**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    return {
        "balanced_accuracy": (recall * present).sum(axis=1) / present.sum(axis=1),
        "macro_f1": (f1 * known).sum(axis=1) / known.sum(axis=1),
        "weighted_f1": (f1 * rows).sum(axis=1) / total,
        # 0 where all rows, or all answers, are of one class, as in scikit-learn.
        "mcc": np.where(spread > 0, agreement / np.sqrt(np.maximum(spread, MIN_DIVISOR)), 0.0),
    }
