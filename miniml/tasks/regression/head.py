"""Converts a logit to a number."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from miniml.model.heads import Head, Logits, Outputs
from miniml.task import Task
from miniml.tasks.regression.task import REGRESSION, RegressionPrediction


class RegressionHead(Head[RegressionPrediction]):
    """The head of a number; the logit is in standard deviations from the mean of the training labels."""

    task = REGRESSION
    prediction_type = RegressionPrediction
    differs_in = "of the labels' standard deviation"

    def __init__(self, mean: float = 0.0, deviation: float = 1.0, *, task: Task | None = None) -> None:
        """
        Args:
            mean: The mean of the training labels.
            deviation: Their standard deviation.
            task: The model's task, where it is another than the head's own.
        """
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

    def prediction(self, outputs: Outputs) -> RegressionPrediction:
        return RegressionPrediction(float(outputs[0]))

    def link(self, output: float) -> float:
        return output

    def margin(self, logits: Logits) -> float:
        """Returns the negative magnitude of the number, because a larger one has larger rounding errors."""
        return -float(np.abs(logits[0]))

    def disagreement(self, found: Logits, expected: Logits) -> float:
        return float(np.abs(found - expected).max())

    def take_over(self, before: Self, weight: Any, bias: Any) -> str:
        """Rescales the layer from the mean and deviation of the earlier labels to those of the new ones.

        Args:
            before: The head that the layer was trained for.
            weight: The layer's weights, a tensor of shape [1, size], which is changed in place.
            bias: Its bias, a tensor of shape [1], likewise; or None.

        Returns:
            An empty remark.
        """
        weight *= before.deviation / self.deviation
        if bias is not None:
            bias.mul_(before.deviation).add_(before.mean - self.mean).div_(self.deviation)
        return ""
