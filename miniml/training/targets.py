"""Turns a task's labels into what a model learns, and measures how well it does on the validation rows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from miniml.data.prepared import DatasetSummary
from miniml.errors import InputError
from miniml.escaping import shown
from miniml.metrics import Answers, added_metrics
from miniml.model.heads import Head, Logits
from miniml.settings.choices import LAST, validation_metrics
from miniml.settings.training import TrainingSettings
from miniml.task import Task
from miniml.training.objective import Objective, SquaredDifference

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

    def answers_objective(self, temperature: float) -> Objective:
        """Returns the loss of a smaller model that learns a full model's answers.

        `Objective.total` gets the full model's logits in place of the labels. By default it is their squared
        difference, which suits any task (Ba and Caruana, "Do Deep Nets Really Need to be Deep?",
        https://arxiv.org/abs/1312.6184).

        Args:
            temperature: The divisor of both models' logits, where they become probabilities.
        """
        return SquaredDifference()

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


def figures_on_validation(target: Target, logits: Logits, encoded: Encoded) -> dict[str, float]:
    """Returns all metrics of the validation rows by name: the plain loss, the task's own, and the registered ones.

    Args:
        target: The task's target.
        logits: The model's logits, shape [rows, width].
        encoded: The labels, as `Target.encoded` gives them.
    """
    loss = target.plain.total(torch.from_numpy(logits), torch.from_numpy(encoded)).item() / len(encoded)
    added = added_validation_metrics(target.answers(logits, encoded))
    return {"loss": loss, **target.validation_metrics(logits, encoded), **added}


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
