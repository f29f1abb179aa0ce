"""A text gets a number."""

from miniml.tasks.regression.task import REGRESSION, Regression

__all__ = ["REGRESSION", "Regression"]
