"""Converts logits to any number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from miniml.model import calibration
from miniml.model.heads import Head, Logits, Outputs, labels_of
from miniml.task import Task
from miniml.tasks.multi_label.task import MULTI_LABEL, MultiLabelPrediction

# A text gets a label whose probability is at least this. The temperature moves no probability across it.
THRESHOLD = 0.5


class MultiLabelHead(Head[MultiLabelPrediction]):
    """The head of independent labels, whose probabilities are the logistic function of the logits."""

    task = MULTI_LABEL
    prediction_type = MultiLabelPrediction

    def __init__(
        self,
        labels: tuple[str, ...],
        temperature: float = 1.0,
        threshold: float = THRESHOLD,
        *,
        task: Task | None = None,
    ) -> None:
        """
        Args:
            labels: The labels' names.
            temperature: The divisor of the logits.
            threshold: The least probability of a label that a text gets.
            task: The model's task, where it is another than the head's own.
        """
        super().__init__(labels, temperature, task=task)
        self.threshold = threshold

    @classmethod
    def read(cls, config: Any, temperature: float, task: Task) -> Self:
        threshold = getattr(config, "label_threshold", THRESHOLD)
        return cls(labels_of(config), temperature, threshold, task=task)

    def write(self, config: Any) -> None:
        super().write(config)
        config.label_threshold = self.threshold

    def outputs(self, logits: Logits) -> Outputs:
        return calibration.logistic(self.scaled(logits)).astype(np.float32, copy=False)

    def given(self, outputs: Outputs) -> npt.NDArray[np.bool_]:
        """Returns whether each label is given, shape [..., width], from outputs of that shape."""
        given: npt.NDArray[np.bool_] = outputs >= np.float32(self.threshold)
        return given

    def prediction(self, outputs: Outputs) -> MultiLabelPrediction:
        return MultiLabelPrediction(
            [label for label, given in zip(self.labels, self.given(outputs).tolist(), strict=True) if given],
            dict(zip(self.labels, outputs.tolist(), strict=True)),
        )

    def answer_settings(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    def margin(self, logits: Logits) -> float:
        least = math.log(self.threshold / (1 - self.threshold)) * self.temperature
        return float(np.abs(logits - least).min())

    def disagreement(self, found: Logits, expected: Logits) -> float:
        """Returns tanh(d / 4), the largest change of a probability by an error of d in its logit."""
        return math.tanh(float(np.abs(found - expected).max()) / 4)


def multi_hot(rows: Sequence[Sequence[int]], labels: int) -> npt.NDArray[np.bool_]:
    """Converts lists of labels to a matrix.

    Args:
        rows: The indices of each row's labels.
        labels: The number of labels.

    Returns:
        Whether each row has each label, shape [rows, labels].
    """
    has = np.zeros((len(rows), labels), dtype=np.bool_)
    for row, places in enumerate(rows):
        has[row, places] = True
    return has
