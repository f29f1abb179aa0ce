"""Computes the metrics that `miniml.metrics.register_metric` has added."""

from __future__ import annotations

import numpy as np

from miniml import metrics
from miniml.evaluation.bootstrap import Floats, Groups, Interval, bootstrap_intervals
from miniml.metrics import Answers, Metric


def added_metrics(answers: Answers, groups: Groups = None) -> dict[str, Interval]:
    """Returns each added metric of the answers' task by name, with its bootstrap interval.

    Args:
        answers: The model's, and the truth.
        groups: The group of each row, shape [rows].
    """
    added = metrics.added_metrics(answers.task)
    return bootstrap_intervals(_Rows(answers, added), groups) if added else {}


class _Rows:
    # There are none: what a row answered differently would do to an added metric is unknown.
    pseudo_rows = 0

    def __init__(self, answers: Answers, metrics: list[Metric]) -> None:
        self.rows, self.labels = answers.probabilities.shape
        self._answers, self._metrics = answers, metrics

    def scores(self, weights: Floats) -> dict[str, Floats]:
        """Returns each metric, shape [draws], for `weights`, shape [draws, rows]."""
        return {
            metric.name: np.array([metric.compute(self._answers, draw) for draw in weights])
            for metric in self._metrics
        }
