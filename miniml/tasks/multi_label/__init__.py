"""Defines the task in which a text has any number of labels."""

from miniml.tasks.multi_label.task import MULTI_LABEL, MultiLabel, MultiLabelPrediction

__all__ = ["MULTI_LABEL", "MultiLabel", "MultiLabelPrediction"]
