"""Selects the weights that become the model: those of the evaluation that did best on the validation rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.metrics import more_is_better
from miniml.progress import logger
from miniml.settings.choices import LAST


class BestModelCallback(TrainerCallback):
    """Keeps a copy of the best weights so far, and ends a training that does not improve.

    Args:
        model: The model that is trained.
        by: The name of the validation metric to select by, or `LAST` for the last step.
        patience: The number of evaluations without an improvement after which the training ends; 0 for no such end.
    """

    def __init__(self, model: torch.nn.Module, by: str, patience: int) -> None:
        self.step = 0
        """The step whose weights are the best so far; 0 before the first evaluation."""
        self.value = math.nan
        """The metric of those weights."""
        self._model, self._by, self._patience = model, by, patience
        self._weights: dict[str, torch.Tensor] = {}
        self._points_without_gain = 0

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        last = state.global_step >= state.max_steps
        if self._by == LAST:
            self.step = state.global_step
            return
        # A registered metric is left out where it is undefined.
        value = (metrics or {}).get(f"eval_{self._by}", math.nan)
        gain = self._gain(value)
        self._points_without_gain = 0 if gain > 0 else self._points_without_gain + 1
        if gain >= 0:
            self.step, self.value = state.global_step, value
            # The weights of the last step are in the model itself.
            self._weights = {} if last else self._copy_weights()
        elif last:
            logger.info(
                f"validation {self._by} was best after step {self.step}: {self.value:.3f}, against {value:.3f} now. "
                f"Those weights are kept"
            )
        if last and math.isnan(self.value):
            logger.info(
                f"validation {self._by} was undefined in every evaluation: the last step's weights are kept"
            )
        if not last and 0 < self._patience <= self._points_without_gain:
            logger.info(
                f"validation {self._by} has not got better since step {self.step} ({self.value:.3f}): stopping at "
                f"step {state.global_step}"
            )
            control.should_training_stop = True

    def save(self, folder: Path) -> None:
        """Writes the best weights so far, with their step and metric, to a checkpoint (see `checkpoints.Resumable`)."""
        state = {"step": self.step, "value": self.value, "points_without_gain": self._points_without_gain}
        (folder / "selection.json").write_text(json.dumps(state), encoding="utf-8")
        save_file(self._weights, folder / "selection.safetensors")

    def restore(self, folder: Path) -> None:
        """Reads from a checkpoint what `save` has written."""
        state = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
        self.step, self.value = state["step"], state["value"]
        self._points_without_gain = state["points_without_gain"]
        self._weights = load_file(folder / "selection.safetensors")

    def apply(self) -> None:
        """Loads the best weights into the model."""
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, weights in self._weights.items():
                parameters[name].copy_(weights)
        self._weights = {}

    def _gain(self, value: float) -> float:
        if not self.step or math.isnan(self.value):
            return math.inf
        return self.value - value if not more_is_better(self._by) else value - self.value

    def _copy_weights(self) -> dict[str, torch.Tensor]:
        """Returns a copy of the trained weights, in main memory."""
        return {
            name: weights.detach().to("cpu", copy=True)
            for name, weights in self._model.named_parameters()
            if weights.requires_grad
        }
