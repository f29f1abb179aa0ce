"""Computes the mean training loss: of the steps since the last point of the curve, and of the whole training.

transformers' Trainer computes both too, but counts from 0 again when a training resumes from a checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from miniml.training.processes import Processes


class MeanLoss:
    """Adds up the losses of the steps, and resumes with the sums of a checkpoint (see `checkpoints.Resumable`)."""

    _NAME = "losses.json"

    def __init__(self, device: torch.device, processes: Processes) -> None:
        """Begins with no step.

        Args:
            device: Where the losses are computed, and added up: reading from a GPU at each step would slow it down.
            processes: The processes that train together; each adds the losses of its own texts.
        """
        self._device, self._processes = device, processes
        self._since_point = torch.zeros((), device=device)
        self._until_point, self._point = 0.0, 0

    def add(self, loss: torch.Tensor) -> None:
        """Counts the loss of some texts of a step, shape []; a step's loss is the sum over its texts."""
        self._since_point += loss

    def of_point(self, step: int) -> float:
        """Closes a point of the curve.

        Args:
            step: The number of the step that has just been done.

        Returns:
            The mean loss of the steps since the last point, over all processes.
        """
        total = self._sum_since_point()
        mean = total / (step - self._point)
        self._since_point.zero_()
        self._until_point += total
        self._point = step
        return mean

    def of_training(self, steps: int) -> float:
        """Returns the mean loss of all `steps` of the training, over all processes."""
        return (self._until_point + self._sum_since_point()) / max(steps, 1)

    def save(self, folder: Path) -> None:
        """Writes the sums for a training that resumes from here."""
        sums = {
            "since_logged": self._sum_since_point(),
            "logged": self._until_point,
            "logged_at": self._point,
        }
        (folder / self._NAME).write_text(json.dumps(sums), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Reads the sums that `save` wrote."""
        sums = json.loads((folder / self._NAME).read_text(encoding="utf-8"))
        self._since_point = torch.tensor(sums["since_logged"], device=self._device)
        self._until_point, self._point = sums["logged"], sums["logged_at"]

    def _sum_since_point(self) -> float:
        return self._processes.all_reduce_mean(self._since_point.item())
