"""The figures of a model that gives a text a number, as a local `evaluate` module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from miniml.evaluation.bootstrap import Groups, Shares, bootstrapped, summed


class RegressionScores(evaluate.Metric):
    """Every figure of a regression with its bootstrap interval.

    `compute(predictions=, references=)` takes numbers, shape [rows] each, and gives `figures`, each a value and its
    95 % interval: `mean_absolute_error`, `root_mean_squared_error`, `r2` and `spearman`; the last two are left out
    where all numbers are equal, of which they tell nothing.
    """

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description="Figures of a regression",
            citation="",
            inputs_description="Numbers",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(
        self, predictions: Sequence[float], references: Sequence[float], groups: Groups = None
    ) -> dict[str, Any]:
        return {"figures": bootstrapped(_Rows(np.asarray(predictions), np.asarray(references)), groups)}


class _Rows:
    doubts = 0  # Errors have no limit that a test could stand at.

    def __init__(self, found: Shares, true: Shares) -> None:
        self.rows, self.labels = len(true), 1
        self._true = true - true.mean()  # the nearer to 0, the less digits their squares lose
        self._errors = found - true
        self._ranked = _Ranked(found), _Ranked(true)

    def scores(self, weights: Shares) -> dict[str, Shares]:
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
    """The rows by their number; equal ones share the mean of their ranks."""

    def __init__(self, values: Shares) -> None:
        _, self._group = np.unique(values, return_inverse=True)

    def ranks(self, weights: Shares) -> Shares:
        """The rank of each row in each draw, shape [draws, rows]."""
        sizes = np.array([np.bincount(self._group, weights=draw) for draw in weights])
        middles = summed(sizes)[:, :-1] + (sizes + 1) / 2
        ranks: Shares = middles[:, self._group]
        return ranks


def _covariance(a: Shares, b: Shares, weights: Shares) -> Shares:
    """Of the ranks in each draw, shape [draws]."""
    total = weights.sum(axis=1)
    means = [(weights * ranks).sum(axis=1) / total for ranks in (a, b)]
    product: Shares = (weights * (a - means[0][:, None]) * (b - means[1][:, None])).sum(axis=1)
    return product


def _divided(above: Shares, below: Shares) -> Shares:
    """nan where there is nothing to divide by."""
    return np.where(below > 1e-12, above / np.where(below > 1e-12, below, 1), np.nan)
