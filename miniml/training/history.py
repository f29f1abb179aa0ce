"""What happened in a training: the curves, and the progress while it lasts."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.model.history import Points, is_figure
from miniml.progress import Progress
from miniml.training.trainer import texts_in_step


class Pace:
    """How far the training is, and how fast it goes."""

    def __init__(self, state: TrainerState, rows: int) -> None:
        """`rows` are those of one epoch. A training that goes on from a checkpoint begins at the state's step."""
        self.loss: float | None = None
        """The mean since the last log but one."""
        self.paused = 0.0
        """Seconds that went to validation."""
        self._rows, self._begun, self._start = rows, state.global_step, time.monotonic()
        self._progress = Progress("training", state.max_steps, "steps", state.global_step)

    def tell(self, state: TrainerState, learning_rate: float) -> None:
        """Says so, if it is time to. Steps may differ in rows; what the epoch has come to counts those."""
        seen = self._rows * (state.epoch or 0.0) * (state.global_step - self._begun) / state.global_step
        seconds = time.monotonic() - self._start - self.paused
        told = [f"loss {self.loss:.3f}"] if self.loss is not None else []
        told += [f"lr {learning_rate:.1e}", f"{seen / max(seconds, 1e-9):.1f} samples/s"]
        self._progress.report(state.global_step, " · ".join(told))


class History(TrainerCallback):
    """Keeps the curves, tells the progress, and says when to look at the validation rows."""

    _NAME = "history.json"

    def __init__(self, evaluations: int) -> None:
        self.points: Points = []
        self._began = self._before = 0.0
        """Seconds: when this process began, and what others had trained before it went on."""
        self._evaluations = evaluations
        self._pace: Pace | None = None
        self._validating: tuple[Progress, Iterator[int]] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        self._began = time.monotonic()
        if state.is_world_process_zero:
            self._pace = Pace(state, rows=len(about["train_dataloader"].dataset))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **about: Any
    ) -> None:
        control.should_evaluate = state.global_step in evaluation_steps(state.max_steps, self._evaluations)
        if self._pace:
            self._pace.tell(state, about["lr_scheduler"].get_last_lr()[0])

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
        if self._pace:
            self._pace.paused += about["metrics"]["eval_runtime"]

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        point = {name: float(value) for name, value in (logs or {}).items()}
        # The trainer counts the steps and the seconds of this process alone.
        if "train_runtime" in point:
            seconds = self._before + point["train_runtime"]
            point["train_samples_per_second"] = texts_in_step(args) * state.global_step / seconds
            point["train_runtime"] = seconds
        self.points.append({"step": float(state.global_step), **point})
        if "loss" in point and self._pace:
            self._pace.loss = point["loss"]

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
                name.replace("eval_", "validation_"): value for name, value in kept.items() if is_figure(name)
            },
            "train_samples_per_second": round(samples / (total["train_runtime"] - in_validation), 2),
            "train_seconds": total["train_runtime"],
            "steps": total["step"],
            "epochs": total["epoch"],
            "kept_step": float(step),
        }


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """The steps after which validation is looked at: evenly apart, and the last of them always."""
    most = min(evaluations, steps)
    return {max(1, round(steps * number / most)) for number in range(1, most + 1)}
