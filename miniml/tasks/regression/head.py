"""From a logit to a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from miniml.model.heads import Head, Logits, Outputs
from miniml.task import Task
from miniml.tasks.regression.task import REGRESSION


@dataclass(frozen=True)
class NumberPrediction:
    """The answer for one text, which has a number."""

    value: float
    """In the unit of the labels that the model was trained on."""

    @property
    def given(self) -> list[str]:
        """The labels that the text is given: a number is none."""
        return []


class RegressionHead(Head):
    """A number, which the model gives in standard deviations from the mean of the labels that it was trained on."""

    task = REGRESSION
    differs_in = "of the labels' standard deviation"

    def __init__(self, mean: float = 0.0, deviation: float = 1.0, *, task: Task | None = None) -> None:
        super().__init__((), task=task)
        self.mean, self.deviation = mean, deviation

    @classmethod
    def read(cls, config: Any, temperature: float, task: Task) -> Self:
        return cls(getattr(config, "label_mean", 0.0), getattr(config, "label_deviation", 1.0), task=task)

    def write(self, config: Any) -> None:
        super().write(config)
        config.label_mean, config.label_deviation = self.mean, self.deviation

    @property
    def width(self) -> int:
        return 1

    def outputs(self, logits: Logits) -> Outputs:
        return (logits.astype(np.float64) * self.deviation + self.mean).astype(np.float32)

    def answer(self, outputs: Outputs) -> NumberPrediction:
        return NumberPrediction(float(outputs[0]))

    def evidence(self, output: float) -> float:
        return output

    def margin(self, logits: Logits) -> float:
        """No number is in doubt; a larger one leaves more room to round it otherwise."""
        return -float(np.abs(logits[0]))

    def disagreement(self, found: Logits, expected: Logits) -> float:
        return float(np.abs(found - expected).max())

    def take_over(self, before: Self, weight: Any, bias: Any) -> str:
        """Both heads count in standard deviations from a mean, each of its own labels."""
        weight *= before.deviation / self.deviation
        if bias is not None:
            bias.mul_(before.deviation).add_(before.mean - self.mean).div_(self.deviation)
        return ""
