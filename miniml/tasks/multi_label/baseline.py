"""Trains the baseline for texts with any number of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.evaluation.baseline import Baseline, logistic_regression


class MultiLabelBaseline(Baseline):
    """A logistic regression for each label."""

    kind = "a logistic regression a label"

    def learn(self, vectors: Any, labels: npt.NDArray[Any]) -> None:
        # Where all rows or none have the label, its probability is constant.
        self._models = [
            logistic_regression().fit(vectors, column) if 0 < column.sum() < len(column) else float(column[0])
            for column in labels.T
        ]

    def outputs(self, vectors: Any) -> npt.NDArray[np.float32]:
        columns = [
            np.full(vectors.shape[0], model)
            if isinstance(model, float)
            else model.predict_proba(vectors)[:, 1]
            for model in self._models
        ]
        return np.stack(columns, axis=1).astype(np.float32)
