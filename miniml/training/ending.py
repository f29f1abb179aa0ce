"""Ends a training before the last step of its schedule: at `stop_at_step`, or when the time limit is reached."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.progress import logger
from miniml.training.processes import Processes
from miniml.training.time_limit import TimeLimit


class Ending(TrainerCallback):
    """Ends a training after a step, with an evaluation, so that the best model can be kept.

    Add it to the trainer after `History`, which sets for each step whether to evaluate.
    """

    def __init__(self, stop_at_step: int, limit: TimeLimit, processes: Processes) -> None:
        """Takes the conditions under which a training ends.

        Args:
            stop_at_step: The step to end after; 0 sets none.
            limit: The time limit.
            processes: The processes that train together. They end at the same step.
        """
        self._stop_at_step, self._limit, self._processes = stop_at_step, limit, processes

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            return
        stop_step_reached = 0 < self._stop_at_step <= state.global_step
        # The processes must end at the same step, though their clocks differ.
        time_is_over = bool(self._limit) and self._processes.all_reduce_max(float(self._limit.is_over)) > 0
        if stop_step_reached or time_is_over:
            control.should_evaluate = control.should_training_stop = True
            reason = (
                "stop_at_step says so"
                if stop_step_reached
                else "the time limit is reached, as steps took longer than planned"
            )
            logger.info(f"ending at step {state.global_step:,} of {state.max_steps:,}: {reason}")
