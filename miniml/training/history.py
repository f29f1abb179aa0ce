"""Records the curves of a training, and reports its progress."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.model.history import Points, is_metric
from miniml.progress import Progress
from miniml.training.trainer import texts_in_step


class ProgressReporter:
    """Reports how far a training is, and how fast it runs."""

    def __init__(self, state: TrainerState, rows: int) -> None:
        """Begins at the state's step, which is above 0 in a training that resumes; `rows` is the texts of an epoch."""
        self.loss: float | None = None
        """The mean loss between the last two points of the curve; None before the first."""
        self.paused = 0.0
        """Seconds that were spent on validation."""
        self._rows, self._begun, self._start = rows, state.global_step, time.monotonic()
        self._progress = Progress("training", state.max_steps, "steps", state.global_step)

    def report(self, state: TrainerState, learning_rate: float) -> None:
        """Prints loss, learning rate and speed, if it is time to.

        The texts are counted by the epoch, since steps may differ in the number of their texts.
        """
        seen = self._rows * (state.epoch or 0.0) * (state.global_step - self._begun) / state.global_step
        seconds = time.monotonic() - self._start - self.paused
        parts = [f"loss {self.loss:.3f}"] if self.loss is not None else []
        parts += [f"lr {learning_rate:.1e}", f"{seen / max(seconds, 1e-9):.1f} samples/s"]
        self._progress.report(state.global_step, " · ".join(parts))


class History(TrainerCallback):
    """Records the curves, reports the progress, and schedules the evaluations."""

    _NAME = "history.json"

    def __init__(self, evaluations: int) -> None:
        """Schedules `evaluations` evaluations, evenly over the training."""
        self.points: Points = []
        self._began = self._before = 0.0
        """Seconds: the time at which this process began to train, and how long earlier ones had trained."""
        self._evaluations = evaluations
        self._progress: ProgressReporter | None = None
        self._validating: tuple[Progress, Iterator[int]] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        self._began = time.monotonic()
        if state.is_world_process_zero:
            self._progress = ProgressReporter(state, rows=len(about["train_dataloader"].dataset))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        control.should_evaluate = state.global_step in evaluation_steps(state.max_steps, self._evaluations)
        if self._progress:
            self._progress.report(state, about["lr_scheduler"].get_last_lr()[0])

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        if self._validating is None:
            batches = len(about["eval_dataloader"])
            self._validating = Progress("validating", batches, "batches"), itertools.count(1)
        progress, count = self._validating
        if state.is_world_process_zero:
            progress.report(next(count))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        self._validating = None
        if self._progress:
            self._progress.paused += about["metrics"]["eval_runtime"]

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        point = {name: float(value) for name, value in (logs or {}).items()}
        # The trainer counts only the steps and the seconds of this process.
        if "train_runtime" in point:
            seconds = self._before + point["train_runtime"]
            point["train_samples_per_second"] = texts_in_step(args) * state.global_step / seconds
            point["train_runtime"] = seconds
        self.points.append({"step": float(state.global_step), **point})
        if "loss" in point and self._progress:
            self._progress.loss = point["loss"]

    def save(self, folder: Path) -> None:
        """Writes the curves and the time for a training that resumes from here (see `checkpoints.Resumable`)."""
        seconds = self._before + time.monotonic() - self._began
        state = {"points": self.points, "seconds": seconds}
        (folder / self._NAME).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        state = json.loads((folder / self._NAME).read_text(encoding="utf-8"))
        self.points, self._before = state["points"], state["seconds"]

    def metrics(self, step: int) -> dict[str, float]:
        """Returns the metrics of the training by name (see `TrainingResult.metrics`).

        Args:
            step: The step whose weights are kept; the validation metrics are those after it.
        """
        total = next(point for point in reversed(self.points) if "train_runtime" in point)
        validations = [point for point in self.points if "eval_runtime" in point]
        kept = next(point for point in validations if point["step"] == step)
        in_validation = sum(point["eval_runtime"] for point in validations)
        samples = total["train_samples_per_second"] * total["train_runtime"]
        return {
            "train_loss": total["train_loss"],
            **{
                name.replace("eval_", "validation_"): value for name, value in kept.items() if is_metric(name)
            },
            "train_samples_per_second": round(samples / (total["train_runtime"] - in_validation), 2),
            "train_seconds": total["train_runtime"],
            "steps": total["step"],
            "epochs": total["epoch"],
            "kept_step": float(step),
        }


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Returns the steps after which to evaluate: evenly spaced, and always the last step."""
    count = min(evaluations, steps)
    return {max(1, round(steps * number / count)) for number in range(1, count + 1)}
