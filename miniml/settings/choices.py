"""Defines types of settings with a set of allowed values that several modules use."""

from __future__ import annotations

from typing import Annotated, Final

from miniml.metrics import added_metrics
from miniml.settings.field_types import OneOf, RegisteredChoices
from miniml.task_registry import AUTO, task_names

BALANCED: Final = "balanced"

LAST: Final = "last"


def validation_metrics(task: str = "") -> tuple[str, ...]:
    """Returns the names of the metrics on the validation rows: miniml's own, and those that were registered.

    Args:
        task: Leaves out registered metrics that this task does not have; by default all are returned.
    """
    return ("accuracy", "macro_f1", "loss", *(metric.name for metric in added_metrics(task)))


ValidationMetric = Annotated[str, OneOf(RegisteredChoices(validation_metrics))]
"""A metric on the validation rows, by which a training picks its best weights and a search its best model."""

BestBy = Annotated[str, OneOf(RegisteredChoices(lambda: (*validation_metrics(), LAST)))]

TaskName = Annotated[str, OneOf(RegisteredChoices(lambda: (AUTO, *task_names())))]
