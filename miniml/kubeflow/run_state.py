"""What became of a run and of each of its stages, read from what Kubeflow Pipelines keeps of the run's tasks.

An Argo workflow says the same, and more: see `miniml.kubeflow.workflow`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", "CACHED"})
GOING_ON = frozenset({"RUNNING", "PENDING"})
_NEVER = datetime.min.replace(tzinfo=UTC)
_DRIVER_FAILED = (
    "what prepares a step failed, and Kubeflow Pipelines does not say why. Does the account of the run's steps exist "
    "(--pipeline-account), and does the namespace's quota leave room?"
)
_CONDITION = "condition-"
"""Begins the name that KFP's compiler gives to the tasks below a dsl.If."""


def loop_index(node: str) -> int:
    """The place in its loop of a workflow's node, from 0; 0 outside of loops. An iteration's name ends (index:item)."""
    found = re.search(r"\((\d{1,9}):", node)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Attempt:
    """One pod of a step. A step whose pod was lost has a further one."""

    pod: str = ""
    """Its name; empty where nobody tells."""
    state: str = ""
    message: str = ""
    """Why it does not start, or how it ended."""


@dataclass(frozen=True)
class Turn:
    """One time that a stage runs: in a loop it has several."""

    stage: str
    number: int = 1
    state: str = ""
    """PENDING (its pod has not started), RUNNING, SUCCEEDED, CACHED, SKIPPED or FAILED; empty before it begins, and for
    what was left out."""
    seconds: float | None = None
    """How long it took, once it has ended."""
    attempts: tuple[Attempt, ...] = ()
    """In their order; a step that came from the cache has none."""

    def __str__(self) -> str:
        """As a person reads it: train, and train (2) for its second turn."""
        return f"{self.stage} ({self.number})" if self.number > 1 else self.stage

    @property
    def message(self) -> str:
        """What is said of its last pod."""
        return self.attempts[-1].message if self.attempts else ""


@dataclass(frozen=True)
class Stages:
    """What is known of a run's stages."""

    turns: list[Turn] = field(default_factory=list)
    complete: bool = True
    """Whether nothing goes on any more, so that a stage without a state was left out."""
    condition_was_false: bool = False
    """Whether tasks were left out because a condition did not hold: the gate's verdict, in our pipelines."""
    troubles: dict[str, Attempt] = field(default_factory=dict)
    """By its name, what failed or does not start though it is no stage: the driver of the whole run, say."""


@dataclass(frozen=True)
class RunState:
    """A run as it is now."""

    run_id: str
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED, CANCELING or CANCELED."""
    stages: Stages
    cancelled: bool = False
    """Whether somebody ended it. Its state is FAILED then, as if it had failed by itself."""
    arguments: dict[str, Any] = field(default_factory=dict)
    pipeline_id: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER

    def turns_of(self, stage: str) -> list[Turn]:
        """Its turns in their order; a stage of which nothing is known has one without a state."""
        return [turn for turn in self.stages.turns if turn.stage == stage] or [Turn(stage)]

    def argument(self, name: str) -> Any:
        """An argument of the run, which may be a field of a struct; None where it was not given."""
        structs = (value for value in self.arguments.values() if isinstance(value, dict))
        return next((given[name] for given in (self.arguments, *structs) if name in given), None)


def stages_from_tasks(tasks: list[Any], stages: list[str]) -> Stages:
    """Reads the stages from a run's `task_details` (kfp_server_api's V2beta1PipelineTaskDetail).

    They say less than a workflow: neither a pod's name nor a message, and nothing that ties a stage to its container
    but the time. Where the workflow has outgrown 1 MiB they stand still.
    """
    named = [task for task in tasks if task.display_name]
    turns = []
    for stage in stages:
        own = [task for task in named if task.display_name == stage]
        own.sort(key=lambda task: (_begun(task), str(task.task_id)))
        turns += [_turn(stage, number, task, named) for number, task in enumerate(own, 1)]
    return Stages(
        turns,
        complete=bool(named) and not any(task.state in GOING_ON for task in named),
        condition_was_false=any(
            is_condition(task.display_name) and task.state == "SKIPPED" for task in named
        ),
        troubles={
            task.display_name: Attempt(state="FAILED", message=_DRIVER_FAILED)
            for task in named
            if task.display_name.endswith("-driver") and task.state == "FAILED"
        },
    )


def is_condition(name: str) -> bool:
    return name.startswith(_CONDITION) and not name.endswith("-driver")


def _turn(stage: str, number: int, task: Any, tasks: list[Any]) -> Turn:
    executors = [other for other in tasks if other.display_name.startswith("executor")]
    pods = [other for other in executors if other.display_name != "executor" and _within(other, task)]
    attempts = tuple(Attempt(state=_state(pod)) for pod in sorted(pods, key=_attempt_number))
    state, seconds = _state(task), _seconds(task)
    # A pod takes longer than that.
    if state == "SUCCEEDED" and seconds == 0 and any(other.state == "SKIPPED" for other in executors):
        state = "CACHED"
    elif state == "RUNNING" and attempts and attempts[-1].state == "PENDING":
        state = "PENDING"
    return Turn(stage, number, state, seconds if state in OVER else None, attempts)


def _state(task: Any) -> str:
    return task.state if task.state and task.state != "RUNTIME_STATE_UNSPECIFIED" else ""


def _within(other: Any, task: Any) -> bool:
    """Whether it began while the task ran."""
    if task.state in OVER and task.end_time and task.end_time < _begun(other):
        return False
    return _begun(task) <= _begun(other)


def _begun(task: Any) -> datetime:
    return task.start_time or _NEVER


def _attempt_number(task: Any) -> int:
    """3 of executor(3)."""
    found = re.search(r"\((\d+)\)$", task.display_name)
    return int(found[1]) if found else 0


def _seconds(task: Any) -> float | None:
    if not (task.start_time and task.end_time):
        return None
    # What never began ends at the beginning of time.
    return max(0.0, float((task.end_time - task.start_time).total_seconds()))
