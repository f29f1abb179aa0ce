"""When a training ends before the last step of its schedule: where it was told to, or where its time is over."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.progress import note
from miniml.training.processes import Processes
from miniml.training.time_limit import TimeLimit


class Ending(TrainerCallback):
    """Ends a training after a step, with a look at validation, so that what it has learnt can be kept.

    It has to hear of a step after `History`, which says anew whether validation is to be looked at.
    """

    def __init__(self, stop_at_step: int, limit: TimeLimit, processes: Processes) -> None:
        self._stop_at_step, self._limit, self._processes = stop_at_step, limit, processes

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            return
        told = 0 < self._stop_at_step <= state.global_step
        # Their clocks differ, and they have to end together.
        over = bool(self._limit) and self._processes.all_reduce_max(float(self._limit.is_over)) > 0
        if told or over:
            control.should_evaluate = control.should_training_stop = True
            reason = (
                "stop_at_step says so"
                if told
                else "the time limit is reached, as steps took longer than planned"
            )
            note(f"ending at step {state.global_step:,} of {state.max_steps:,}: {reason}")
