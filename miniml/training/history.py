"""What happened in a training: the curves, and the progress while it lasts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.progress import Progress

# What transformers adds to the validation figures, which are no figures of the model.
_NO_FIGURES = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")


class History(TrainerCallback):
    """Keeps the curves, tells the progress, and says when to look at the validation rows."""

    _NAME = "history.json"

    def __init__(self, evaluations: int) -> None:
        self.points: list[dict[str, float]] = []
        self._began = self._before = 0.0
        """Seconds: when this process began, and what others had trained before it went on."""
        self._evaluations = evaluations
        self._progress: Progress | None = None
        self._loss = "loss —"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._progress = Progress("training", state.max_steps, "steps", begun=state.global_step)
        self._began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        assert self._progress is not None
        self._progress.report(state.global_step, self._loss)
        control.should_evaluate = state.global_step in evaluation_steps(state.max_steps, self._evaluations)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        point = {name: float(value) for name, value in (logs or {}).items()}
        if (
            "train_runtime" in point
        ):  # The trainer counts the samples of all, and the seconds of this process.
            seconds = self._before + point["train_runtime"]
            point["train_samples_per_second"] *= point["train_runtime"] / seconds
            point["train_runtime"] = seconds
        self.points.append({"step": float(state.global_step), **point})
        if "loss" in point:
            self._loss = f"loss {point['loss']:.3f}"

    def save(self, folder: Path) -> None:
        """Writes what a training that goes on from here has to know (see `checkpoints.Resumable`)."""
        seconds = self._before + time.monotonic() - self._began
        state = {"points": self.points, "seconds": seconds}
        (folder / self._NAME).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        state = json.loads((folder / self._NAME).read_text(encoding="utf-8"))
        self.points, self._before = state["points"], state["seconds"]

    def metrics(self, step: int) -> dict[str, float]:
        """See `TrainingResult.metrics`; the validation figures are those of the weights after `step`."""
        total = next(point for point in reversed(self.points) if "train_runtime" in point)
        validations = [point for point in self.points if "eval_runtime" in point]
        kept = next(point for point in validations if point["step"] == step)
        in_validation = sum(point["eval_runtime"] for point in validations)
        samples = total["train_samples_per_second"] * total["train_runtime"]
        return {
            "train_loss": total["train_loss"],
            **{
                name.replace("eval_", "validation_"): value
                for name, value in kept.items()
                if name.startswith("eval_") and name not in _NO_FIGURES
            },
            "train_samples_per_second": round(samples / (total["train_runtime"] - in_validation), 2),
            "steps": total["step"],
            "kept_step": float(step),
        }


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """The steps after which validation is looked at: evenly apart, and the last of them always."""
    return {max(1, round(steps * number / evaluations)) for number in range(1, evaluations + 1)}
