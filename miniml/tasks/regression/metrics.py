"""Computes the metrics of a number for each text, as a local module of the `evaluate` library.

R² and the errors are defined as in https://scikit-learn.org/stable/modules/model_evaluation.html#regression-metrics and
Spearman's correlation, the correlation of average ranks, as in
https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.spearmanr.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from miniml.evaluation.bootstrap import Floats, Groups, bootstrap_intervals, summed


class RegressionScores(evaluate.Metric):
    """Computes the metrics of a regression with their bootstrap intervals.

    `compute(predictions=, references=)` takes numbers, shape [rows] each. It returns `figures`, each a value and its
    95 % interval: `mean_absolute_error`, `root_mean_squared_error`, `r2` and `spearman`. The last two are left out
    where they are undefined, because all numbers are equal.
    """

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description="Metrics of a regression",
            citation="",
            inputs_description="Numbers",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(
        self, predictions: Sequence[float], references: Sequence[float], groups: Groups = None
    ) -> dict[str, Any]:
        return {
            "figures": bootstrap_intervals(_Rows(np.asarray(predictions), np.asarray(references)), groups)
        }


class _Rows:
    # Pseudo-rows are for tests that reach a metric's limit, which errors do not have.
    pseudo_rows = 0

    def __init__(self, found: Floats, true: Floats) -> None:
        self.rows, self.labels = len(true), 1
        self._true = true - true.mean()  # Centred, so that their squares lose fewer digits.
        self._errors = found - true
        self._ranked = _Ranked(found), _Ranked(true)

    def scores(self, weights: Floats) -> dict[str, Floats]:
        drawn = weights.sum(axis=1)
        squared = weights @ self._errors**2 / drawn
        spread = weights @ self._true**2 / drawn - (weights @ self._true / drawn) ** 2
        a, b = (ranked.ranks(weights) for ranked in self._ranked)
        return {
            "mean_absolute_error": weights @ np.abs(self._errors) / drawn,
            "root_mean_squared_error": np.sqrt(squared),
            "r2": 1 - _divided(squared, spread),
            "spearman": _divided(
                _covariance(a, b, weights), np.sqrt(_covariance(a, a, weights) * _covariance(b, b, weights))
            ),
        }


class _Ranked:
    """Ranks rows by their value; rows with equal values get the mean of their ranks."""

    def __init__(self, values: Floats) -> None:
        _, self._group = np.unique(values, return_inverse=True)

    def ranks(self, weights: Floats) -> Floats:
        """Returns the rank of each row in each draw, shape [draws, rows]."""
        sizes = np.array([np.bincount(self._group, weights=draw) for draw in weights])
        middles = summed(sizes)[:, :-1] + (sizes + 1) / 2
        ranks: Floats = middles[:, self._group]
        return ranks


def _covariance(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Returns the covariance of the ranks in each draw, shape [draws]."""
    total = weights.sum(axis=1)
    means = [(weights * ranks).sum(axis=1) / total for ranks in (a, b)]
    product: Floats = (weights * (a - means[0][:, None]) * (b - means[1][:, None])).sum(axis=1)
    return product


def _divided(above: Floats, below: Floats) -> Floats:
    """Divides; nan where the divisor is about 0."""
    return np.where(below > 1e-12, above / np.where(below > 1e-12, below, 1), np.nan)
