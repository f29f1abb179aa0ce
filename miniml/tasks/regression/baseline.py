"""A simple regression, which a model has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge

from miniml.evaluation.baseline import Baseline


class RegressionBaseline(Baseline):
    """A number from words."""

    kind = "ridge regression"

    def learn(self, vectors: Any, labels: npt.NDArray[Any]) -> None:
        self._model = Ridge().fit(vectors, labels)

    def outputs(self, vectors: Any) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._model.predict(vectors).astype(np.float32)[:, None]
        return found
