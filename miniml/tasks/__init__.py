"""What a text gets: one class of several, any number of labels, or a number; each such task is one folder.

`register` adds a task from outside; see `miniml.tasks.task.Task` for what it has to say.
"""

from miniml.tasks.registry import find_task, register, task_names
from miniml.tasks.task import Task

__all__ = ["Task", "find_task", "register", "task_names"]
