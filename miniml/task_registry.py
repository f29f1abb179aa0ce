"""All tasks, a line each."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any, TypeVar

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.registry import Registry
from miniml.task import Task

AUTO = "auto"
"""In place of a task's name: the labels tell."""

_FOLDERS = (
    "miniml.tasks.single_label:SINGLE_LABEL",
    "miniml.tasks.multi_label:MULTI_LABEL",
    "miniml.tasks.regression:REGRESSION",
)
Kind = TypeVar("Kind", bound=type[Task])


def register_task(kind: Kind) -> Kind:
    """Adds a task, so that the setting `task` may name it; to be used as a decorator of its class.

    Every process that works with the task has to have imported the module of that class; of an installed package the
    entry points do that (see `miniml.extensions`).

    Args:
        kind: The task's class.

    Returns:
        The same class.

    Raises:
        ValueError: another task has that name.
    """
    # A task equals its name, so that the registry alone would not tell another class of that name.
    if type(TASKS.get(kind.name, kind())) is not kind:
        raise ValueError(f"there is a task {kind.name!r} already")
    TASKS.add(kind.name, kind())
    return kind


def task_names() -> tuple[str, ...]:
    """Gives the names of all tasks."""
    return tuple(name for name, _ in TASKS.items())


def all_tasks() -> tuple[Task, ...]:
    """Gives all tasks."""
    return tuple(task for _, task in TASKS.items())


def find_task(name: str) -> Task:
    """Gives the task of that name.

    Raises:
        InputError: there is none; the message names those there are.
    """
    task = TASKS.get(name)
    if task is None:
        raise InputError(f"task {shown(name)} is not known. Use one of {', '.join(task_names())}.")
    return task


def stored_task(stored: Mapping[str, Any]) -> Task:
    """Gives the task under the key "task" of what a file holds.

    Raises:
        InputError: the file names one that is not registered.
    """
    return find_task(stored.get("task", DEFAULT.name))


def beyond_default(task: Task) -> list[str]:
    """Gives the task's name, for a digest; none for the task that digests did not name when it was the only one."""
    return [] if task == DEFAULT else [task]


# Last, for importing a task's folder imports `miniml.tasks`, which offers the functions above.
_OWN: dict[str, Task] = {task.name: task for task in map(pkgutil.resolve_name, _FOLDERS)}

TASKS: Registry[Task] = Registry("miniml.tasks", _OWN)

DEFAULT = next(iter(_OWN.values()))
"""The task of labels that no other one recognises, and of files that are older than tasks: one class a text."""
