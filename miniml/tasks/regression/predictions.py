"""Holds the predictions of a regression: a number for each text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from miniml.errors import InputError
from miniml.evaluation.bootstrap import Interval, mean_with_interval
from miniml.evaluation.comparison import compare_errors
from miniml.evaluation.non_inferiority import compare_errors_with_margin
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.quarters import quarters
from miniml.evaluation.result import Comparison, NonInferiority
from miniml.task import Task
from miniml.tasks.regression.task import REGRESSION


@dataclass(frozen=True)
class RegressionPredictions(Predictions):
    """Answers that are numbers; references and answers have shape [rows]."""

    task: Task = REGRESSION
    column_type: ClassVar[Any] = pa.float64()

    @property
    def predicted(self) -> npt.NDArray[Any]:
        return self.probabilities[:, 0].astype(np.float64)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        raise InputError(
            f"the predictions of {self.model_digest[:12]} are numbers, of which none is right or wrong. Give those of "
            f"a classifier."
        )

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """The absolute error of each row, in the unit of the labels, shape [rows]."""
        errors: npt.NDArray[np.float64] = np.abs(self.predicted - self.references)
        return errors

    def primary_metric(self, inside: npt.NDArray[np.bool_]) -> Interval:
        """Returns the mean absolute error with its t interval."""
        mean, low, high = mean_with_interval(self.errors[inside], self.groups_of(inside))
        return mean, max(0.0, low), high

    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        """Yields quarters of the rows, by their labels."""
        return quarters(self.references, whole=False)

    def compared_with(self, other: Self, digest: str) -> Comparison:
        return compare_errors(self.errors, other.errors, digest, self.groups)

    def compared_with_answers(self, answers: Sequence[Any], digest: str) -> Comparison:
        found = np.array([answer.value for answer in answers])
        return compare_errors(self.errors, np.abs(found - self.references), digest, self.groups)

    def compared_with_margin(self, full: Self, max_loss: float) -> NonInferiority:
        return compare_errors_with_margin(self.errors, full.errors, full.model_digest, max_loss, self.groups)

    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        numbers: list[Any] = answers.tolist()
        return numbers

    def matrices(self) -> dict[str, npt.NDArray[np.float32]]:
        return {"logits": self.logits}

    @staticmethod
    def references_of(names: list[Any], labels: list[str]) -> npt.NDArray[Any]:
        return np.array(names, dtype=np.float64)

    @staticmethod
    def outputs_of(table: pa.Table, width: int) -> npt.NDArray[np.float32]:
        return table["predicted"].to_numpy().astype(np.float32)[:, None]  # type: ignore[no-any-return]
