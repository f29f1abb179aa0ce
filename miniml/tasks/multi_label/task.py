"""Defines the task in which a text has any number of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from miniml.task import Part, Prediction, Task


@dataclass(frozen=True)
class MultiLabelPrediction(Prediction):
    """What a model predicts for one text: any number of labels."""

    labels: list[str]
    """The labels whose probability reaches the model's threshold, in the model's order."""
    probabilities: dict[str, float]
    """Every label's probability by its name, in the model's order; they need not sum to 1."""

    @property
    def given(self) -> list[str]:
        return self.labels


class MultiLabel(Task):
    """The task in which a text has any number of labels, independently of each other."""

    name = problem_type = "multi_label_classification"
    primary_metric = "subset_accuracy"
    several_labels = True
    one, many = "label", "labels"
    majority_answer = "giving the most frequent labels"
    limit = "It knows its labels only: of anything else that a text is, it says nothing."
    output_adapter = "labels"

    labels: ClassVar[Part] = "miniml.tasks.multi_label.labels:LabelSets"
    head: ClassVar[Part] = "miniml.tasks.multi_label.head:MultiLabelHead"
    target: ClassVar[Part] = "miniml.tasks.multi_label.training:MultiLabelTarget"
    predictions: ClassVar[Part] = "miniml.tasks.multi_label.predictions:MultiLabelPredictions"
    evaluator: ClassVar[Part] = "miniml.tasks.multi_label.evaluator:MultiLabelEvaluator"

    def label_names(self, feature: Any) -> list[str] | None:
        of_each = getattr(feature, "feature", None)
        names = getattr(of_each, "names", None)
        return None if names is None else list(names)


MULTI_LABEL = MultiLabel()
