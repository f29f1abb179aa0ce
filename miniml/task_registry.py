"""Registers the tasks, one line each."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any, TypeVar

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.registry import Registry
from miniml.task import Task

AUTO = "auto"
"""The setting that lets the labels decide which task it is."""

_FOLDERS = (
    "miniml.tasks.single_label:SINGLE_LABEL",
    "miniml.tasks.multi_label:MULTI_LABEL",
    "miniml.tasks.regression:REGRESSION",
)
Kind = TypeVar("Kind", bound=type[Task])


def register_task(kind: Kind) -> Kind:
    """Adds a task, so that the setting `task` may name it; a decorator of the task's class.

    Every process that works with the task must import the module of that class; for an installed package the entry
    points do that (see `miniml.extensions`).

    Args:
        kind: The task's class.

    Returns:
        The same class.

    Raises:
        ValueError: another task has that name.
    """
    # A task equals its name, so the registry alone would not notice another class of that name.
    if type(TASKS.get(kind.name, kind())) is not kind:
        raise ValueError(f"there is a task {kind.name!r} already")
    TASKS.add(kind.name, kind())
    return kind


def task_names() -> tuple[str, ...]:
    """Returns the names of all tasks."""
    return tuple(name for name, _ in TASKS.items())


def all_tasks() -> tuple[Task, ...]:
    """Returns all tasks."""
    return tuple(task for _, task in TASKS.items())


def find_task(name: str) -> Task:
    """Returns the task with that name.

    Raises:
        InputError: no task has that name; the message lists those that exist.
    """
    task = TASKS.get(name)
    if task is None:
        raise InputError(f"task {shown(name)} is not known. Use one of {', '.join(task_names())}.")
    return task


def stored_task(stored: Mapping[str, Any]) -> Task:
    """Returns the task under the key "task" of a file's content, or the default task.

    Raises:
        InputError: the task is not registered.
    """
    return find_task(stored.get("task", DEFAULT.name))


def beyond_default(task: Task) -> list[str]:
    """Returns the task's name for a digest, or nothing for the default task, which older digests do not name."""
    return [] if task == DEFAULT else [task]


# Last, because importing a task's folder imports `miniml.tasks`, which offers the functions above.
_OWN: dict[str, Task] = {task.name: task for task in map(pkgutil.resolve_name, _FOLDERS)}

TASKS: Registry[Task] = Registry("miniml.tasks", _OWN)

DEFAULT = next(iter(_OWN.values()))
"""The task of labels that no other task recognises, and of files from before there were tasks: one class a text."""
