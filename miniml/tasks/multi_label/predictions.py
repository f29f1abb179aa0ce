"""Holds the predictions of a multi-label classification: any number of labels for each text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from miniml.evaluation.predictions import Predictions
from miniml.task import Task
from miniml.tasks.multi_label.head import THRESHOLD, multi_hot
from miniml.tasks.multi_label.task import MULTI_LABEL

NO_LABEL = "(no label)"
"""The name of the slice of texts without a label."""


@dataclass(frozen=True)
class MultiLabelPredictions(Predictions):
    """Answers of any number of labels; references and answers are booleans, shape [rows, labels]."""

    threshold: float = THRESHOLD
    """The least probability of a label that a text gets."""

    task: Task = MULTI_LABEL
    column_type: ClassVar[Any] = pa.list_(pa.string())

    @property
    def predicted(self) -> npt.NDArray[Any]:
        given: npt.NDArray[np.bool_] = self.probabilities >= np.float32(self.threshold)
        return given

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each row gets all of its labels and no others, shape [rows]."""
        correct: npt.NDArray[np.bool_] = np.all(self.predicted == self.references, axis=1)
        return correct

    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
        for place, label in enumerate(self.labels):
            if (having := self.references[:, place]).any():
                yield label, having
        none: npt.NDArray[np.bool_] = ~np.any(self.references, axis=1)
        if none.any():
            yield NO_LABEL, none

    def names(self, answers: npt.NDArray[Any]) -> list[Any]:
        labels = np.array(self.labels, dtype=object)
        return [labels[row].tolist() for row in answers]

    def facts(self) -> dict[str, str]:
        return {**super().facts(), "threshold": repr(self.threshold)}

    @classmethod
    def of(cls, table: pa.Table, facts: dict[str, str], **more: Any) -> Self:
        return super().of(table, facts, threshold=float(facts["threshold"]), **more)

    @staticmethod
    def references_of(names: list[Any], labels: list[str]) -> npt.NDArray[Any]:
        places = {label: place for place, label in enumerate(labels)}
        return multi_hot([[places[name] for name in of_row] for of_row in names], len(labels))
