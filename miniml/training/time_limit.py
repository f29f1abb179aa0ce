"""A training that ends in time: how many steps fit into its minutes, reckoned from what profiled steps have measured.

The plan is arithmetic on numbers and knows nothing of a model. It is made once: the schedule is laid over its steps,
the model's manifest tells it, and with its numbers as arguments any machine makes the same model again.
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
from miniml.progress import duration, note
from miniml.settings.training import TrainingSettings

MARGIN = 0.1
"""By which steps and validations may take longer than they were measured, before the end comes too late: a processor
that grows hot slows down, others want it too, and saving checkpoints may take a twentieth (`checkpoints.SHARE`)."""
SHARE_OF_VALIDATION = 0.25
"""Of the time, at most, that looking at validation may take where steps are left out for want of it."""

clock = time.monotonic
"""Seconds, from whenever. All that a time limit knows of time comes from here."""

Tokens = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Measured:
    """What the profiled steps have found on this machine, in seconds."""

    steps: list[tuple[int, float]]
    """Of optimizer steps: how many padded tokens each had, and how long it took."""
    validation: float
    """Of a pass over the validation rows."""
    ending: float
    """Of what follows the last validation: saving, exporting, calibrating."""

    def of_steps(self, tokens: Tokens) -> Seconds:
        """How long steps of so many padded tokens take, each. What lies between two that were measured takes as long
        as a line between them says: part of a step's time follows its tokens, and part, the optimizer's, does not."""
        if len(self.steps) == 1:
            [(length, took)] = self.steps
            return tokens * (took / length)
        lengths, seconds = zip(*sorted(self.steps), strict=True)
        found: Seconds = np.interp(tokens, lengths, seconds)
        return found


@dataclass(frozen=True)
class Plan:
    """What fits."""

    steps: int
    evaluations: int
    asked_steps: int
    asked_evaluations: int
    samples_per_second: float
    """At which the planned steps go, without validation."""
    seconds: float
    """That steps and validations will take."""
    afterwards: float
    """Seconds that a last validation takes, and saving: where fewer are left, the training has to end."""

    @property
    def whole(self) -> bool:
        """Whether all that was asked for fits."""
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
    """As many steps as fit into `left` seconds, of those asked for, and validations that are no too large part of it.

    `tokens` has the padded tokens of each step of an epoch, shape [steps]; later epochs have much the same. `beginning`
    says how many seconds come before a training of so many steps.

    Raises:
        TrainingError: not a single step fits.
    """
    takes = measured.of_steps(tokens).cumsum()

    def learning(steps: int) -> float:
        epochs, rest = divmod(steps, len(takes))
        return float(beginning(steps) + epochs * takes[-1] + (takes[rest - 1] if rest else 0.0))

    usable = (left - measured.ending) / (1 + MARGIN)
    steps, looks = asked, evaluations
    if learning(steps) + looks * measured.validation > usable:
        while looks > 1 and looks * measured.validation > SHARE_OF_VALIDATION * usable:
            looks -= 1
        steps = bisect_right(range(asked + 1), usable - looks * measured.validation, key=learning) - 1
    if steps < 1:
        raise TrainingError(
            f"time_limit leaves no time for a single step: {max(0.0, left):.0f} s are left of it, of which a look at "
            f"validation takes {measured.validation:.1f} s, saving the model {measured.ending:.1f} s, and a step "
            f"{takes[0]:.1f} s. Give more minutes."
        )
    return Plan(
        steps,
        looks,
        asked,
        evaluations,
        texts_in_step * steps / (learning(steps) - beginning(steps)),
        learning(steps) + looks * measured.validation,
        measured.validation + measured.ending,
    )


class TimeLimit:
    """The minutes that a training may take in all, and the plan that keeps to them.

    It is one of the parts that a checkpoint holds (`checkpoints.Resumable`): a training that goes on has its plan, and
    the time that had led to the checkpoint counts. What was lost between that and the kill does not.
    """

    NAME = "time_limit.json"

    def __init__(self, minutes: float) -> None:
        """`minutes` from now; 0 sets no limit."""
        self.minutes = minutes
        self.plan: Plan | None = None
        self._begun, self._before = clock(), 0.0

    def __bool__(self) -> bool:
        return self.minutes > 0

    @property
    def spent(self) -> float:
        """Seconds, with those of the processes before this one."""
        return self._before + clock() - self._begun

    @property
    def left(self) -> float:
        """Seconds; less than 0 where the time is over."""
        return 60 * self.minutes - self.spent

    @property
    def is_over(self) -> bool:
        """Whether there is just enough time left to validate what has been learnt, and to save it."""
        return self.plan is not None and self.left < self.plan.afterwards

    def resume(self, folder: Path) -> bool:
        """Takes up the plan of a checkpoint, if it holds one."""
        path = folder / self.NAME
        if not self or not path.exists():
            return False
        state = json.loads(path.read_text(encoding="utf-8"))
        self.plan, self._before = Plan(**state["plan"]), state["spent"]
        return True

    def keep_to(self, made: Plan) -> None:
        """Takes a plan, and says what fits."""
        self.plan = made
        pace = f"{made.samples_per_second:,.1f} samples/s"
        if made.whole:
            note(
                f"{pace}: all of the {made.steps:,} steps fit into {round(self.minutes, 2):g} min "
                f"(they take about {duration(made.seconds)})"
            )
        else:
            fewer = made.evaluations < made.asked_evaluations
            looks = f", with validation {made.evaluations} times of {made.asked_evaluations}" if fewer else ""
            note(
                f"{pace}: {made.steps:,} of {made.asked_steps:,} steps fit into {round(self.minutes, 2):g} min{looks}"
            )

    def applied_to(self, settings: TrainingSettings) -> TrainingSettings:
        """The settings of a training that does what was planned, and no more."""
        if self.plan is None:
            return settings
        return replace(settings, iterations=self.plan.steps, evaluations=self.plan.evaluations)

    def save(self, folder: Path) -> None:
        """Writes what a training that goes on from here has to know."""
        if self.plan:
            state = {"plan": asdict(self.plan), "spent": self.spent}
            (folder / self.NAME).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Nothing is left to do: a trainer is made for the plan, so that `resume` came before."""

    def record(self, reached: int, steps: int) -> dict[str, Any]:
        """What the manifest tells, of a training that has come to the step `reached` of its schedule's `steps`.

        Where that cannot be known beforehand, it is also said how the same model is made again.
        """
        ended = {"ended_at_step": reached} if reached < steps else {}
        if self.plan is None:
            return {"planned_steps": steps, **ended}
        stop = f" --stop-at-step {reached}" if ended else ""
        again = f"--iterations {steps} --evaluations {self.plan.evaluations}{stop} --time-limit 0"
        if ended or not self.plan.whole:
            note(f"to repeat it exactly: {again}")
        return {
            "asked_steps": self.plan.asked_steps,
            "planned_steps": steps,
            "planned_evaluations": self.plan.evaluations,
            **ended,
            "repeated_by": again,
        }
