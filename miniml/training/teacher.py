"""Lets a smaller model learn a full model's answers to the training texts, besides the true labels.

It is knowledge distillation: Hinton et al., "Distilling the Knowledge in a Neural Network",
https://arxiv.org/abs/1503.02531
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from miniml.model import manifest
from miniml.model.heads import Logits
from miniml.training.objective import Objective
from miniml.training.targets import Encoded, Target


@dataclass(frozen=True)
class Teacher:
    """A full model, by its answers, and the smaller model that learns them."""

    student: Path
    """The signed folder of the model to begin with, in place of the settings' `model_id`."""
    logits: Logits
    """The full model's logits of the training texts, in the dataset's order, shape [texts, width]."""
    temperature: float
    """The divisor of both models' logits in the loss."""
    weight: float
    """The weight of the full model's answers in the loss, from 0 to 1; the true labels have the rest."""
    described: dict[str, Any]
    """What the new manifest says about the full model, such as its digest."""

    @property
    def pretrained(self) -> str:
        """The address of the encoder that the full model was made of."""
        return str(manifest.read(self.student).arguments["pretrained"])

    @property
    def record(self) -> dict[str, Any]:
        """What the new manifest says about the distillation; it identifies it, together with the student's files."""
        return {**self.described, "temperature": self.temperature, "weight": self.weight}

    def taught(self, labels: Encoded) -> Encoded:
        """Returns the labels of the training texts, each followed by the full model's logits, for `objective`.

        Args:
            labels: The labels, as `Target.encoded` gives them, shape [texts] or [texts, outputs].

        Returns:
            Shape [texts, labels and logits], in float32, which holds the index of every class exactly.
        """
        columns = labels.reshape(len(labels), -1).astype(np.float32)
        return np.concatenate([columns, self.logits], axis=1)

    def objective(self, target: Target, labels: Encoded, true: Objective) -> Objective:
        """Returns the loss of texts whose labels are as `taught` gives them.

        Args:
            target: The task's target, which knows the loss of the full model's answers.
            labels: The labels alone, as `Target.encoded` gives them.
            true: The loss of these labels.
        """
        answers = target.answers_objective(self.temperature)
        return _Mixed(true, answers, self.weight, torch.from_numpy(labels[:0]))


@dataclass(frozen=True)
class _Mixed:
    """The weighted sum of two losses: of the true labels, and of the full model's answers."""

    true: Objective
    answers: Objective
    weight: float
    no_labels: torch.Tensor
    """No labels, of the type and shape that `true` takes."""

    def total(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sums the losses of texts.

        Args:
            logits: Shape [texts, width].
            labels: The true labels and the full model's logits, shape [texts, labels and width].
        """
        width = logits.shape[1]
        true = labels[:, :-width].reshape(-1, *self.no_labels.shape[1:]).to(self.no_labels.dtype)
        of_labels = self.true.total(logits, true)
        of_answers = self.answers.total(logits, labels[:, -width:])
        return (1 - self.weight) * of_labels + self.weight * of_answers
