"""The types of settings that are one of a few words, where more than one place needs to know which."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from miniml.settings.field_types import OneOf
from miniml.task_registry import TaskChoices

BALANCED: Final = "balanced"

LAST: Final = "last"

ValidationMetric = Literal["accuracy", "macro_f1", "loss"]
"""What is measured on validation: a training keeps its weights by it, and a search its model."""

BestBy = Literal[ValidationMetric, "last"]

BEST_BY: tuple[str, ...] = get_args(BestBy)

TaskName = Annotated[str, OneOf(TaskChoices())]
