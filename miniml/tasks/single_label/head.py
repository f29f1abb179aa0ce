"""Converts logits to exactly one class."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from miniml.model import calibration
from miniml.model.heads import Head, Logits, Outputs, labels_of, lead
from miniml.task import Task
from miniml.tasks.single_label.task import SINGLE_LABEL, SingleLabelPrediction


class SingleLabelHead(Head[SingleLabelPrediction]):
    """The head of mutually exclusive classes, whose probabilities are the softmax of the logits."""

    task = SINGLE_LABEL
    prediction_type = SingleLabelPrediction

    @classmethod
    def read(cls, config: Any, temperature: float, task: Task) -> Self:
        return cls(labels_of(config), temperature, task=task)

    def outputs(self, logits: Logits) -> Outputs:
        return calibration.softmax(self.scaled(logits)).astype(np.float32, copy=False)

    def prediction(self, outputs: Outputs) -> SingleLabelPrediction:
        row: list[float] = outputs.tolist()
        best = max(range(len(row)), key=row.__getitem__)
        return SingleLabelPrediction(self.labels[best], row[best], dict(zip(self.labels, row, strict=True)))

    def margin(self, logits: Logits) -> float:
        return lead(logits)

    def disagreement(self, found: Logits, expected: Logits) -> float:
        """Returns tanh(d / 4), the largest change of a probability by an error of d between two logits.

        On texts that the model is sure of, the probabilities change less. The bound is used so that a few such texts do
        not pass for agreement.
        """
        return math.tanh(float(np.ptp(found - expected, axis=1).max()) / 4)
