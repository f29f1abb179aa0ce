"""Defines the interface by which transform reads, names, checks and describes the labels of a task."""

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

# The number of labels in the log.
MAX_LOGGED = 6


class LabelScheme(ABC):
    """Reads, names, checks and describes the labels of one task."""

    encoder: ClassVar[type[Encoder]]
    """Reads the column: a number for each row."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def recognises(self, column: LabelColumn) -> str:
        """Tells whether a column can only belong to this task, for settings that name no task.

        Returns:
            A sentence for the log, or "" if the column may belong to another task.
        """
        return ""

    @abstractmethod
    def find_labels(self, pool: Pool, kept: Mask, settings: DataSettings, findings: Findings) -> Labels:
        """Returns the labels in a ClassLabel's own order, or else sorted, and numbers by their value.

        Args:
            pool: The rows.
            kept: The rows to use, as a mask of shape (rows of the pool,); if the settings say so, rows of classes with
                too few rows are removed from it.
            settings: The minimum of rows, and the names of the labels.
            findings: Where rows are counted that are left out.

        Raises:
            InputError: A class has too few rows, fewer than two are left, or `label_names` names another number.
        """

    def labels_of(self, value: Any) -> tuple[Any, ...]:
        """Returns the labels that one of the encoder's values stands for."""
        return (value,)

    def value_of(self, labels: tuple[Any, ...]) -> Any:
        """Returns the encoder's value for these labels; the inverse of `labels_of`."""
        [value] = labels
        return value

    def written(self, code: Any, values: list[Any]) -> Any:
        """Returns a label in the form in which people write it.

        Args:
            code: The encoder's number of the label.
            values: The encoder's values.
        """
        return values[code]

    def numbers(self, labels: Codes) -> dict[str, float]:
        """Returns statistics of labels that are numbers, or {}; see `DatasetSummary.numbers`."""
        return {}

    def summary(self, data: DatasetSummary) -> str:
        """Returns a short description of the labels, for the log."""
        first = ", ".join(label[:MAX_SHOWN] for label in data.labels[:MAX_LOGGED])
        several = ", of which a text may have several" if self.task.several_labels else ""
        return f"{len(data.labels)} {self.task.many}{several}: {first}"

    def tile(self, data: DatasetSummary) -> tuple[str, str]:
        """Returns the name of the labels and their most important value, for a tile of the report."""
        return self.task.many.capitalize(), str(len(data.labels))


def scheme_of(task: Task) -> LabelScheme:
    """Returns the scheme of a task's labels."""
    scheme: LabelScheme = task.part("labels")(task)
    return scheme


def label_of(pool: Pool, row: int) -> Any:
    """Returns the label of a row of the pool, in the form in which people write it."""
    return scheme_of(pool.task).written(pool.facts.label[row], pool.label_values)


def task_of(column: LabelColumn) -> Task:
    """Returns the task that the settings name, or else the first one that recognises the labels."""
    if column.settings.task != AUTO:
        return find_task(column.settings.task)
    for task in all_tasks():
        if reason := scheme_of(task).recognises(column):
            logger.info(reason)
            return task
    return DEFAULT
