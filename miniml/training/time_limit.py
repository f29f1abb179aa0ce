"""Plans how many steps of a training fit into its time limit, from the measured durations of a few steps.

The plan is made once. The learning rate schedule spans the planned steps, and the manifest records them, so that a
training with these numbers as arguments gives the same model on any machine.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from miniml.errors import TrainingError
from miniml.progress import duration, logger
from miniml.settings.training import TrainingSettings

MARGIN = 0.1
"""The fraction by which steps and evaluations may take longer than measured. A hot CPU slows down, other programs use
it too, and saving checkpoints may take a twentieth of the time (`checkpoints.SAVING_FRACTION`)."""
SHARE_OF_VALIDATION = 0.25
"""The largest fraction of the time for evaluations in a training that has no time for all of its steps."""

clock = time.monotonic
"""A monotonic clock in seconds; time limits use no other."""

Tokens = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Measured:
    """The durations that were measured on this machine, in seconds."""

    steps: list[tuple[int, float]]
    """The padded tokens and the duration of each profiled optimizer step."""
    validation: float
    """The duration of an evaluation on the validation rows."""
    ending: float
    """The duration of what follows the last evaluation: saving, exporting, calibrating."""

    def of_steps(self, tokens: Tokens) -> Seconds:
        """Returns the duration of steps, shape [steps], by linear interpolation between the profiled ones.

        A line has a constant part, since the optimizer takes as long for a short step as for a long one.

        Args:
            tokens: The padded tokens of each step, shape [steps].
        """
        if len(self.steps) == 1:
            [(length, seconds_of_step)] = self.steps
            return tokens * (seconds_of_step / length)
        lengths, durations = zip(*sorted(self.steps), strict=True)
        interpolated: Seconds = np.interp(tokens, lengths, durations)
        return interpolated


@dataclass(frozen=True)
class Plan:
    """The steps and evaluations that fit into the time limit, beside those that the settings ask for."""

    steps: int
    evaluations: int
    asked_steps: int
    asked_evaluations: int
    samples_per_second: float
    """The speed of the planned steps, without evaluations."""
    seconds: float
    """The expected seconds of all steps and evaluations."""
    afterwards: float
    """The seconds of a last evaluation and of saving. The training must end when fewer are left."""

    @property
    def whole(self) -> bool:
        """Whether all steps and evaluations that the settings ask for fit."""
        return (self.steps, self.evaluations) == (self.asked_steps, self.asked_evaluations)


def plan(
    tokens: Tokens,
    texts_in_step: int,
    asked: int,
    evaluations: int,
    measured: Measured,
    left: float,
    beginning: Callable[[int], float] = lambda steps: 0.0,
) -> Plan:
    """Plans as many steps as fit into the time that is left, with fewer evaluations if they would take too much of it.

    Args:
        tokens: The padded tokens of each step of an epoch, shape [steps]; later epochs have similar ones.
        texts_in_step: The texts of an optimizer step.
        asked: The steps that the settings ask for.
        evaluations: The evaluations that the settings ask for.
        measured: The durations that were measured.
        left: The seconds that are left.
        beginning: Returns the seconds that pass before a training of so many steps begins.

    Raises:
        TrainingError: not a single step fits.
    """
    elapsed = measured.of_steps(tokens).cumsum()

    def seconds_of(steps: int) -> float:
        epochs, rest = divmod(steps, len(elapsed))
        return float(beginning(steps) + epochs * elapsed[-1] + (elapsed[rest - 1] if rest else 0.0))

    usable = (left - measured.ending) / (1 + MARGIN)
    steps, planned = asked, evaluations
    if seconds_of(steps) + planned * measured.validation > usable:
        while planned > 1 and planned * measured.validation > SHARE_OF_VALIDATION * usable:
            planned -= 1
        steps = bisect_right(range(asked + 1), usable - planned * measured.validation, key=seconds_of) - 1
    if steps < 1:
        raise TrainingError(
            f"time_limit leaves no time for a single step: {max(0.0, left):.0f} s of it are left. An evaluation "
            f"takes {measured.validation:.1f} s, saving the model {measured.ending:.1f} s, and a step "
            f"{elapsed[0]:.1f} s. Give more minutes."
        )
    return Plan(
        steps,
        planned,
        asked,
        evaluations,
        texts_in_step * steps / (seconds_of(steps) - beginning(steps)),
        seconds_of(steps) + planned * measured.validation,
        measured.validation + measured.ending,
    )


class TimeLimit:
    """Counts the time of a training, and keeps the plan for it.

    A checkpoint contains it (`checkpoints.Resumable`): a training that resumes has the same plan, and the time up to
    the checkpoint counts. The time between the checkpoint and the end of that process does not.
    """

    NAME = "time_limit.json"

    def __init__(self, minutes: float) -> None:
        """Starts the clock; a limit of 0 minutes is none."""
        self.minutes = minutes
        self.plan: Plan | None = None
        self._begun, self._before = clock(), 0.0

    def __bool__(self) -> bool:
        return self.minutes > 0

    @property
    def spent(self) -> float:
        """The seconds that this process has run, and those before it up to the checkpoint."""
        return self._before + clock() - self._begun

    @property
    def left(self) -> float:
        """The seconds that are left; below 0 after the limit."""
        return 60 * self.minutes - self.spent

    @property
    def is_over(self) -> bool:
        """Whether the time that is left is just enough for a last evaluation and for saving."""
        return self.plan is not None and self.left < self.plan.afterwards

    def resume(self, folder: Path) -> bool:
        """Reads the plan and the time of a checkpoint, and returns whether it has a plan."""
        path = folder / self.NAME
        if not self or not path.exists():
            return False
        state = json.loads(path.read_text(encoding="utf-8"))
        self.plan, self._before = Plan(**state["plan"]), state["spent"]
        return True

    def keep_to(self, made: Plan) -> None:
        """Sets the plan, and prints what fits."""
        self.plan = made
        pace = f"{made.samples_per_second:,.1f} samples/s"
        if made.whole:
            logger.info(
                f"{pace}: all of the {made.steps:,} steps fit into {round(self.minutes, 2):g} min "
                f"(they take about {duration(made.seconds)})"
            )
        else:
            fewer = made.evaluations < made.asked_evaluations
            rarer = f", with validation {made.evaluations} times of {made.asked_evaluations}" if fewer else ""
            logger.info(
                f"{pace}: {made.steps:,} of {made.asked_steps:,} steps fit into {round(self.minutes, 2):g} min{rarer}"
            )

    def applied_to(self, settings: TrainingSettings) -> TrainingSettings:
        """Returns the settings with the planned number of steps and evaluations."""
        if self.plan is None:
            return settings
        return replace(settings, iterations=self.plan.steps, evaluations=self.plan.evaluations)

    def save(self, folder: Path) -> None:
        """Writes the plan and the time for a training that resumes from here."""
        if self.plan:
            state = {"plan": asdict(self.plan), "spent": self.spent}
            (folder / self.NAME).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Does nothing: the plan is needed before there is a trainer, so `resume` has read it."""

    def record(self, reached: int, steps: int) -> dict[str, Any]:
        """Returns what the manifest records of the plan, and prints how to repeat a training that was shortened.

        Args:
            reached: The last step of the training.
            steps: The steps of its schedule.
        """
        ended = {"ended_at_step": reached} if reached < steps else {}
        if self.plan is None:
            return {"planned_steps": steps, **ended}
        stop = f" --stop-at-step {reached}" if ended else ""
        again = f"--iterations {steps} --evaluations {self.plan.evaluations}{stop} --time-limit 0"
        if ended or not self.plan.whole:
            logger.info(f"to repeat it exactly: {again}")
        return {
            "asked_steps": self.plan.asked_steps,
            "planned_steps": steps,
            "planned_evaluations": self.plan.evaluations,
            **ended,
            "repeated_by": again,
        }
