"""What happened in a training: the curves, the progress, and the end where the loss is no number any more."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.errors import InputError
from miniml.progress import Progress


class History(TrainerCallback):
    """Keeps the curves, tells the progress, and stops where the loss is no number any more."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self._progress: Progress | None = None
        self._loss = "loss —"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._progress = Progress("training", state.max_steps, "steps")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        assert self._progress is not None
        self._progress.report(state.global_step, self._loss)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        point = {name: float(value) for name, value in (logs or {}).items()}
        self.points.append({"step": float(state.global_step), **point})
        loss = point.get("loss")
        if loss is None:
            return
        self._loss = f"loss {loss:.3f}"
        if not math.isfinite(loss):
            raise InputError(
                f"the training diverged: the loss is {loss} at step {state.global_step}. "
                f"Lower learning_rate (now {args.learning_rate:g})."
            )

    def metrics(self) -> dict[str, float]:
        """See `TrainingResult.metrics`."""
        total = next(point for point in reversed(self.points) if "train_runtime" in point)
        validations = [point for point in self.points if "eval_accuracy" in point]
        in_validation = sum(point["eval_runtime"] for point in validations)
        samples = total["train_samples_per_second"] * total["train_runtime"]
        return {
            "train_loss": total["train_loss"],
            "validation_accuracy": validations[-1]["eval_accuracy"],
            "validation_loss": validations[-1]["eval_loss"],
            "train_samples_per_second": round(samples / (total["train_runtime"] - in_validation), 2),
            "steps": total["step"],
        }
