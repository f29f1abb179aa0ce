"""Defines the task in which a text has a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.task import LabelSettings, Part, Prediction, Task


@dataclass(frozen=True)
class RegressionPrediction(Prediction):
    """What a model predicts for one text: a number."""

    value: float
    """The number, in the unit of the training labels."""

    @property
    def given(self) -> list[str]:
        return []


class Regression(Task):
    """The task in which a text has a number, in the unit of the training labels."""

    name = problem_type = "regression"
    primary_metric = "mean_absolute_error"
    has_accuracy = False
    one, many = "number", "numbers"
    example_metric = "r2=0.5"
    metric_titles: ClassVar = {
        "mean_absolute_error": ("Mean absolute error", "in the labels' unit; less is better")
    }
    limit = "It gives every text a number, also one that has nothing to do with what the numbers are of."
    output_adapter = "number"

    labels: ClassVar[Part] = "miniml.tasks.regression.labels:Numbers"
    head: ClassVar[Part] = "miniml.tasks.regression.head:RegressionHead"
    target: ClassVar[Part] = "miniml.tasks.regression.training:RegressionTarget"
    predictions: ClassVar[Part] = "miniml.tasks.regression.predictions:RegressionPredictions"
    evaluator: ClassVar[Part] = "miniml.tasks.regression.evaluator:RegressionEvaluator"

    def check_data_settings(self, settings: LabelSettings) -> None:
        super().check_data_settings(settings)
        if settings.label_names:
            raise InputError(
                f"label_names is {shown(settings.label_names)}, but task is {self}, which has no classes to name. "
                f"Leave label_names out."
            )

    def label_names(self, feature: Any) -> list[str] | None:
        return [] if str(getattr(feature, "dtype", "")).startswith("float") else None


REGRESSION = Regression()
