"""Describes the state of a run and of its stages, and reads it from the task details of Kubeflow Pipelines.

An Argo workflow has the same information, and more: see `miniml.kubeflow.workflow`.
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
"""The prefix of the name that KFP's compiler gives to the tasks below a dsl.If."""


def loop_index(node: str) -> int:
    """Returns the iteration of a workflow's node, from 0; 0 outside of loops. An iteration's name ends (index:item)."""
    found = re.search(r"\((\d{1,9}):", node)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Attempt:
    """One pod of a step. A step whose pod was lost has several."""

    pod: str = ""
    """The pod's name; empty where it is unknown."""
    state: str = ""
    """The pod's state, as in `Turn`; empty where it is unknown."""
    message: str = ""
    """Why the pod does not start, or how it ended."""


@dataclass(frozen=True)
class Turn:
    """One execution of a stage: in a loop a stage has several."""

    stage: str
    number: int = 1
    """The number of the turn, from 1."""
    state: str = ""
    """PENDING (its pod has not started), RUNNING, SUCCEEDED, CACHED, SKIPPED or FAILED; empty before the turn begins,
    and for one that was left out."""
    seconds: float | None = None
    """The duration in seconds, once the turn has ended."""
    attempts: tuple[Attempt, ...] = ()
    """The pods, oldest first; a turn that came from the cache has none."""

    def __str__(self) -> str:
        """Returns the turn as a person reads it: train, and train (2) for the second one."""
        return f"{self.stage} ({self.number})" if self.number > 1 else self.stage

    @property
    def message(self) -> str:
        """The message of the last pod; empty where there is none."""
        return self.attempts[-1].message if self.attempts else ""


@dataclass(frozen=True)
class Stages:
    """The state of a run's stages."""

    turns: list[Turn] = field(default_factory=list)
    complete: bool = True
    """Whether no task runs or waits any more, so that a stage without a state was left out."""
    condition_was_false: bool = False
    """Whether tasks were left out because a condition was false: the gate's verdict, in miniml's pipelines."""
    troubles: dict[str, Attempt] = field(default_factory=dict)
    """The pods of other tasks that failed or do not start, such as the driver of the whole run, by the task's name."""


@dataclass(frozen=True)
class RunState:
    """The current state of a run."""

    run_id: str
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED, CANCELING or CANCELED."""
    stages: Stages
    cancelled: bool = False
    """Whether somebody cancelled the run. Its state is FAILED then, as if it had failed by itself."""
    arguments: dict[str, Any] = field(default_factory=dict)
    pipeline_id: str = ""

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.state in OVER

    def turns_of(self, stage: str) -> list[Turn]:
        """Returns a stage's turns in their order; a stage that is unknown has one turn without a state."""
        return [turn for turn in self.stages.turns if turn.stage == stage] or [Turn(stage)]

    def argument(self, name: str) -> Any:
        """Returns an argument of the run, or a field of a struct among them; None where it was not given."""
        structs = (value for value in self.arguments.values() if isinstance(value, dict))
        return next((given[name] for given in (self.arguments, *structs) if name in given), None)


def stages_from_tasks(tasks: list[Any], stages: list[str]) -> Stages:
    """Reads the stages from a run's `task_details` (kfp_server_api's V2beta1PipelineTaskDetail).

    These hold less than a workflow: no names or messages of pods, and only times to match a stage with its container.
    They are not updated any more once the workflow is larger than 1 MiB.

    Args:
        tasks: The details of the run's tasks.
        stages: The names of the pipeline's stages, in the order in which they run.
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
    """Whether a task of this name stands for a dsl.If."""
    return name.startswith(_CONDITION) and not name.endswith("-driver")


def _turn(stage: str, number: int, task: Any, tasks: list[Any]) -> Turn:
    executors = [other for other in tasks if other.display_name.startswith("executor")]
    pods = [other for other in executors if other.display_name != "executor" and _within(other, task)]
    attempts = tuple(Attempt(state=_state(pod)) for pod in sorted(pods, key=_attempt_number))
    state, seconds = _state(task), _seconds(task)
    # A step that ran a pod takes longer than 0 seconds.
    if state == "SUCCEEDED" and seconds == 0 and any(other.state == "SKIPPED" for other in executors):
        state = "CACHED"
    elif state == "RUNNING" and attempts and attempts[-1].state == "PENDING":
        state = "PENDING"
    return Turn(stage, number, state, seconds if state in OVER else None, attempts)


def _state(task: Any) -> str:
    return task.state if task.state and task.state != "RUNTIME_STATE_UNSPECIFIED" else ""


def _within(other: Any, task: Any) -> bool:
    """Whether `other` began while the task ran."""
    if task.state in OVER and task.end_time and task.end_time < _begun(other):
        return False
    return _begun(task) <= _begun(other)


def _begun(task: Any) -> datetime:
    return task.start_time or _NEVER


def _attempt_number(task: Any) -> int:
    """Returns 3 for executor(3)."""
    found = re.search(r"\((\d+)\)$", task.display_name)
    return int(found[1]) if found else 0


def _seconds(task: Any) -> float | None:
    if not (task.start_time and task.end_time):
        return None
    # The end of a task that never began is the zero time, long before its start.
    return max(0.0, float((task.end_time - task.start_time).total_seconds()))
