"""Holds the predictions of a classification: one class for each text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from miniml.evaluation.predictions import Predictions
from miniml.task import Task
from miniml.tasks.single_label.task import SINGLE_LABEL


@dataclass(frozen=True)
class SingleLabelPredictions(Predictions):
    """Answers of one class; references and answers are indices into `labels`, shape [rows]."""

    task: Task = SINGLE_LABEL
    column_type: ClassVar[Any] = pa.string()

    @property
    def predicted(self) -> npt.NDArray[Any]:
        answers: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return answers

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        correct: npt.NDArray[np.bool_] = self.predicted == self.references
        return correct

    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        for index, label in enumerate(self.labels):
            if (inside := self.references == index).any():
                yield label, inside

    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        named: list[Any] = np.array(self.labels, dtype=object)[answers].tolist()
        return named

    @staticmethod
    def references_of(names: list[Any], labels: list[str]) -> npt.NDArray[Any]:
        indices = {label: index for index, label in enumerate(labels)}
        return np.array([indices[name] for name in names], dtype=np.int64)
