"""Turns a task's labels into what a model learns, and measures how well it does on the validation rows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from miniml.data.prepared import DatasetSummary
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.metrics import Answers, added_metrics
from miniml.model.heads import Head, Logits
from miniml.settings.choices import LAST, validation_metrics
from miniml.settings.training import TrainingSettings
from miniml.task import Task
from miniml.training.objective import Objective

Encoded = npt.NDArray[Any]


class Target(ABC):
    """A task's labels as numbers, with their loss, and the meaning of the model's logits."""

    head: Head
    plain: Objective
    """The loss neither weighted nor smoothed, which makes validation losses of different settings comparable."""

    @classmethod
    @abstractmethod
    def of(cls, summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Self:
        """Returns the target for a dataset.

        Args:
            summary: The dataset.
            labels: The labels of its training rows.
            settings: The training's settings.

        Raises:
            InputError: a setting is not available with such labels.
        """

    @abstractmethod
    def encoded(self, labels: Sequence[Any]) -> Encoded:
        """Returns the dataset's column `label` as the loss takes it: an array with a row per text."""

    @abstractmethod
    def objective(self, encoded: Encoded, settings: TrainingSettings) -> Objective:
        """Returns the loss that a training on rows with these labels minimizes."""

    @abstractmethod
    def validation_metrics(self, logits: Logits, encoded: Encoded) -> dict[str, float]:
        """Returns the metrics of the validation rows, by the names that evaluation uses."""

    @abstractmethod
    def answers(self, logits: Logits, encoded: Encoded) -> Answers:
        """Returns the answers to the validation rows beside the true labels, for registered metrics."""

    @abstractmethod
    def temperature(self, logits: Logits, encoded: Encoded) -> float | None:
        """Returns the temperature that calibrates the probabilities; None where there are none."""


def target_of(summary: DatasetSummary, labels: Sequence[Any], settings: TrainingSettings) -> Target:
    """Returns the target for a dataset, of the class that its task has registered.

    Args:
        summary: The dataset.
        labels: The labels of its training rows.
        settings: The training's settings.

    Raises:
        InputError: a setting is not available with such labels.
    """
    _require_metric(settings.best_by, summary.task)
    target: type[Target] = summary.task.part("target")
    return target.of(summary, labels, settings)


def added_validation_metrics(answers: Answers) -> dict[str, float]:
    """Returns the registered metrics of the answers' task by name, without those that are undefined on these rows."""
    weights = np.ones(len(answers.references))
    found = {metric.name: metric.compute(answers, weights) for metric in added_metrics(answers.task)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _require_metric(best_by: str, task: Task) -> None:
    if best_by in (*validation_metrics(task), LAST):
        return
    raise InputError(
        f"best_by {shown(best_by)} is no metric of the task {task}. Use one of {', '.join(validation_metrics(task))} "
        f"or {LAST}."
    )
