"""Defines the task in which a text has exactly one class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from miniml.task import Part, Prediction, Task


@dataclass(frozen=True)
class SingleLabelPrediction(Prediction):
    """What a model predicts for one text: one class."""

    label: str
    """The most probable class."""
    score: float
    """The probability of `label`."""
    probabilities: dict[str, float]
    """Every class's probability by its name, in the model's order; they sum to 1."""

    @property
    def given(self) -> list[str]:
        return [self.label]


class SingleLabel(Task):
    """The task in which a text has exactly one class."""

    name = problem_type = "single_label_classification"
    primary_metric = "accuracy"
    one, many = "class", "classes"
    limit = (
        "It knows its classes only: a text that belongs to none of them is put into one of them all the same."
    )
    output_adapter = "class"

    labels: ClassVar[Part] = "miniml.tasks.single_label.labels:Classes"
    head: ClassVar[Part] = "miniml.tasks.single_label.head:SingleLabelHead"
    target: ClassVar[Part] = "miniml.tasks.single_label.training:SingleLabelTarget"
    predictions: ClassVar[Part] = "miniml.tasks.single_label.predictions:SingleLabelPredictions"
    evaluator: ClassVar[Part] = "miniml.tasks.single_label.evaluator:SingleLabelEvaluator"

    def label_names(self, feature: Any) -> list[str] | None:
        return list(feature.names) if hasattr(feature, "names") else None


SINGLE_LABEL = SingleLabel()
