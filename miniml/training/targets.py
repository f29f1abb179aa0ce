"""What a model is to learn of a task's labels, and how well it does on the validation rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy.typing as npt

from miniml.data.prepared import DatasetSummary
from miniml.model.heads import Head, Logits
from miniml.settings.training import TrainingSettings
from miniml.training.objective import Objective

Encoded = npt.NDArray[Any]


class Target(ABC):
    """The labels as numbers that a loss can be taken of, and what the model's numbers then mean."""

    head: Head
    plain: Objective
    """The loss neither weighted nor smoothed: of validation rows the same figure, whatever the training makes small."""

    @classmethod
    @abstractmethod
    def of(cls, summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Self:
        """Gives the target of a dataset of the task, whose training rows have these labels.

        Raises:
            InputError: the settings ask for what there is not with such labels.
        """

    @abstractmethod
    def encoded(self, labels: Sequence[Any]) -> Encoded:
        """The dataset's column `label`, an entry a text, as the loss takes it."""

    @abstractmethod
    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        """What the training makes small, on rows with these labels."""

    @abstractmethod
    def validation_metrics(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        """Gives the metrics of the validation rows, under the names that evaluation has for them."""

    @abstractmethod
    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        """What makes the probabilities mean what they say; None where there are none."""


def target_of(summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Target:
    """Gives the target of a dataset whose training rows have these labels.

    Raises:
        InputError: the settings ask for what there is not with such labels.
    """
    target: type[Target] = summary.task.part("target")
    return target.of(summary, labels, settings)
