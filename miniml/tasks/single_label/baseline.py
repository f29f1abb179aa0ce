"""Trains the baseline for texts with one class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.evaluation.baseline import Baseline, logistic_regression


class SingleLabelBaseline(Baseline):
    """A logistic regression of all classes."""

    kind = "logistic regression"

    def learn(self, vectors: Any, labels: npt.NDArray[Any]) -> None:
        self._model = logistic_regression().fit(vectors, labels)

    def outputs(self, vectors: Any) -> npt.NDArray[np.float32]:
        found = np.zeros((vectors.shape[0], self.labels), dtype=np.float32)
        found[:, self._model.classes_] = self._model.predict_proba(vectors)
        return found
