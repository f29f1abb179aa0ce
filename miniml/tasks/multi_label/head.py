"""From logits to any number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from miniml.model import calibration
from miniml.model.heads import Head, Logits, Outputs, labels_of
from miniml.task import Task
from miniml.tasks.multi_label.task import MULTI_LABEL

# A label is given where its probability is at least this. The temperature moves no probability across it.
THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelsPrediction:
    """The answer for one text, which may have several labels, or none."""

    labels: list[str]
    """Those whose probability reaches the model's threshold, in the model's order."""
    probabilities: dict[str, float]
    """Every label's probability by its name, in the model's order, each by itself."""

    @property
    def given(self) -> list[str]:
        """The labels that the text is given."""
        return self.labels


class MultiLabelHead(Head):
    """Each label by itself; probabilities by the logistic function."""

    task = MULTI_LABEL

    def __init__(
        self,
        labels: tuple[str, ...],
        temperature: float = 1.0,
        threshold: float = THRESHOLD,
        *,
        task: Task | None = None,
    ) -> None:
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
        """Which labels the texts with these outputs, shape [..., width], are given."""
        given: npt.NDArray[np.bool_] = outputs >= np.float32(self.threshold)
        return given

    def answer(self, outputs: Outputs) -> LabelsPrediction:
        return LabelsPrediction(
            [label for label, given in zip(self.labels, self.given(outputs).tolist(), strict=True) if given],
            dict(zip(self.labels, outputs.tolist(), strict=True)),
        )

    def margin(self, logits: Logits) -> float:
        least = math.log(self.threshold / (1 - self.threshold)) * self.temperature
        return float(np.abs(logits - least).min())

    def disagreement(self, found: Logits, expected: Logits) -> float:
        """An error of d in a logit moves the probability of a label in doubt by up to tanh(d / 4)."""
        return math.tanh(float(np.abs(found - expected).max()) / 4)


def multi_hot(rows: Sequence[Sequence[int]], labels: int) -> npt.NDArray[np.bool_]:
    """Gives which labels each row has, shape [rows, labels], from their places in a list for each row."""
    has = np.zeros((len(rows), labels), dtype=np.bool_)
    for row, places in enumerate(rows):
        has[row, places] = True
    return has
