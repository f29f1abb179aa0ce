"""The interface by which transform reads, names, checks and describes the labels of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from miniml.data.encoding import Codes, Encoder
from miniml.data.findings import Findings
from miniml.data.label_column import LabelColumn
from miniml.data.labels import Labels
from miniml.data.pool import Mask, Pool
from miniml.data.prepared import DatasetSummary
from miniml.escaping import MAX_SHOWN
from miniml.progress import logger
from miniml.settings.data import DataSettings
from miniml.task import Task
from miniml.task_registry import AUTO, DEFAULT, all_tasks, find_task

# In the log.
LABELS_TOLD = 6


class LabelScheme(ABC):
    """How the labels of one task are read, named, checked and described."""

    encoder: ClassVar[type[Encoder]]
    """Reads the column: a number for each row."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def recognises(self, column: LabelColumn) -> str:
        """Tells whether the column can only be one of this task's, where the settings name no task.

        Returns:
            A sentence for the log; "" where it may be another task's.
        """
        return ""

    @abstractmethod
    def find_labels(self, pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Labels:
        """Gives the labels, in a ClassLabel's own order, others sorted, numbers by their value.

        Clears `kept` of classes with too few rows, where the settings say so.

        Raises:
            InputError: a class has too few rows, fewer than two are left, or `label_names` names another number.
        """

    def labels_of(self, value: Any) -> tuple[Any, ...]:
        """Gives the labels that one of the encoder's values stands for."""
        return (value,)

    def value_of(self, labels: tuple[Any, ...]) -> Any:
        """Gives the value that stands for these labels, as `labels_of` has them."""
        [value] = labels
        return value

    def written(self, code: Any, values: list[Any]) -> Any:
        """Gives the label of a row, by the encoder's number of it, as a person would write it."""
        return values[code]

    def numbers(self, labels: Codes) -> dict[str, float]:
        """Gives what the labels are like, where they are numbers; see `DatasetSummary.numbers`."""
        return {}

    def summary(self, data: DatasetSummary) -> str:
        """Gives the labels in a few words, for the log."""
        first = ", ".join(label[:MAX_SHOWN] for label in data.labels[:LABELS_TOLD])
        several = ", of which a text may have several" if self.task.several_labels else ""
        return f"{len(data.labels)} {self.task.many}{several}: {first}"

    def tile(self, data: DatasetSummary) -> tuple[str, str]:
        """Gives what the report calls the labels, and the one figure of them that stands above all."""
        return self.task.many.capitalize(), str(len(data.labels))


def scheme_of(task: Task) -> LabelScheme:
    """Gives the scheme of the labels of that task."""
    scheme: LabelScheme = task.part("labels")(task)
    return scheme


def label_of(pool: Pool, row: int) -> Any:
    """Gives the label of a row of the pool, as a person would write it."""
    return scheme_of(pool.task).written(pool.facts.label[row], pool.label_values)


def task_of(column: LabelColumn) -> Task:
    """Gives the task that the settings name, or that the labels tell."""
    if column.settings.task != AUTO:
        return find_task(column.settings.task)
    for task in all_tasks():
        if told := scheme_of(task).recognises(column):
            logger.info(told)
            return task
    return DEFAULT
