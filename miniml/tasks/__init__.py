"""Holds the tasks, each in its own folder: one class for each text, any number of labels, or a number.

`register_task` adds a task of your own; `miniml.task.Task` describes what it has to define.
"""

from miniml.task import Task
from miniml.task_registry import find_task, register_task, task_names

__all__ = ["Task", "find_task", "register_task", "task_names"]
