"""A text gets any number of labels, also none."""

from miniml.tasks.multi_label.task import MULTI_LABEL, MultiLabel

__all__ = ["MULTI_LABEL", "MultiLabel"]
