"""Holds the tasks, each in its own folder: one class for each text, any number of labels, or a number.

`register_task` adds a task of your own; `miniml.task.Task` describes what it has to define.
"""

from miniml.task import Prediction, Task
from miniml.task_registry import find_task, register_task, task_names
from miniml.tasks.multi_label import MultiLabelPrediction
from miniml.tasks.regression import RegressionPrediction
from miniml.tasks.single_label import SingleLabelPrediction

__all__ = [
    "MultiLabelPrediction",
    "Prediction",
    "RegressionPrediction",
    "SingleLabelPrediction",
    "Task",
    "find_task",
    "register_task",
    "task_names",
]
