"""Defines types of settings with a fixed set of values that several modules use."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from miniml.settings.field_types import OneOf
from miniml.task_registry import TaskChoices

BALANCED: Final = "balanced"

LAST: Final = "last"

ValidationMetric = Literal["accuracy", "macro_f1", "loss"]
"""A metric on the validation rows, by which a training picks its best weights and a search its best model."""

BestBy = Literal[ValidationMetric, "last"]

BEST_BY: tuple[str, ...] = get_args(BestBy)

TaskName = Annotated[str, OneOf(TaskChoices())]
