"""A text gets one class of several."""

from miniml.tasks.single_label.task import SINGLE_LABEL, SingleLabel, SingleLabelPrediction

__all__ = ["SINGLE_LABEL", "SingleLabel", "SingleLabelPrediction"]
