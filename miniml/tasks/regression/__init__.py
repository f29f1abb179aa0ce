"""Defines the task in which a text has a number."""

from miniml.tasks.regression.task import REGRESSION, Regression, RegressionPrediction

__all__ = ["REGRESSION", "Regression", "RegressionPrediction"]
