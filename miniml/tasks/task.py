"""What a text gets: one class of several, any number of labels, or a number. The names are transformers' own."""

from __future__ import annotations

from enum import StrEnum

AUTO = "auto"


class Task(StrEnum):
    """The kind of a dataset's labels, and so of the model, its figures and its answers."""

    SINGLE_LABEL = "single_label_classification"
    MULTI_LABEL = "multi_label_classification"
    REGRESSION = "regression"

    @property
    def measure(self) -> str:
        """The figure of the test that the task is first judged by."""
        return _MEASURES[self]

    def figure(self, asked: str) -> str:
        """The figure of validation that `best_by` and `pick_by` ask for: "accuracy" is the task's measure."""
        return self.measure if asked == "accuracy" else asked


_MEASURES = {
    Task.SINGLE_LABEL: "accuracy",
    Task.MULTI_LABEL: "subset_accuracy",
    Task.REGRESSION: "mean_absolute_error",
}
