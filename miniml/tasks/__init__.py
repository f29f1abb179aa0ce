"""What a text gets: one class of several, any number of labels, or a number; each such task is one folder.

`register` adds a task from outside; see `miniml.task.Task` for what it has to say.
"""

from miniml.task import Task
from miniml.task_registry import find_task, register, task_names

__all__ = ["Task", "find_task", "register", "task_names"]
