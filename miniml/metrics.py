"""Registers the metrics: their titles, whether more is better, and for added ones the function that computes them.

To add one, register it. Evaluation then computes it with its 95 % interval, for the model and the baseline; it appears
in metrics.json and in the report; and the gate accepts it in `min_metrics`. Training computes it on the validation
rows, and `best_by` and `pick_by` accept it. Cohen's kappa, for example:

    register_metric(
        Metric(
            "kappa",
            "Cohen's kappa",
            limits=(-1.0, 1.0),
            score=lambda answers, weights: cohen_kappa_score(
                answers.references, answers.predicted, sample_weight=weights
            ),
        )
    )

Metrics without `score` are miniml's own. Each task computes its own in one pass over the rows, in
`miniml/tasks/<task>/metrics.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from miniml.errors import InputError
from miniml.escaping import shown
from miniml.registry import Registry
from miniml.task_registry import DEFAULT

if TYPE_CHECKING:  # The gate asks whether more is better, and has no numpy.
    import numpy.typing as npt


@dataclass(frozen=True)
class Answers:
    """A model's answers to some rows, with the true labels."""

    task: str
    """The task's name (see `miniml.task.Task`)."""
    references: npt.NDArray[Any]
    """The true labels: class indices, shape [rows]; with several labels 0 or 1, [rows, labels]; or numbers, [rows]."""
    predicted: npt.NDArray[Any]
    """The answers, in the form of `references`."""
    probabilities: npt.NDArray[Any]
    """The probability of each class or label, shape [rows, labels]; in a regression the numbers, [rows, 1]."""


@dataclass(frozen=True)
class Metric:
    """A metric of a model's answers."""

    name: str
    """The name in metrics.json and `min_metrics`, in lower case with underscores."""
    title: str
    """The title in the report."""
    hint: str = ""
    """A few words on how to read it, for the report."""
    limits: tuple[float, float] = (0.0, 1.0)
    """The least and the largest possible value."""
    more_is_better: bool = True
    """Whether larger values are better. In an image without your package, as the gate's may be, the name decides: less
    is better for those that end in "error" or "loss"."""
    is_tile: bool = False
    """Whether it is one of the few large numbers at the top of the report."""
    hub_name: str = ""
    """The metric's name on the Hugging Face hub; empty where it has none."""
    tasks: tuple[str, ...] = (DEFAULT.name,)
    """The names of the tasks that have it; only metrics with a `score` need them."""
    score: Callable[[Answers, npt.NDArray[Any]], float] | None = None
    """Computes the metric from answers and weights, shape [rows], which are scikit-learn's `sample_weight`. For the
    interval it is called up to a thousand times with other weights; it returns nan where the metric is undefined. Where
    all rows are answered correctly, the interval has no width. Import libraries within it: a stage that only has to
    know the metric's name may lack them."""

    def compute(self, answers: Answers, weights: npt.NDArray[Any]) -> float:
        """Calls `score`, and checks what it returns.

        Args:
            answers: The model's, and the truth.
            weights: The weight of each row, shape [rows].

        Returns:
            The metric; nan where it is undefined.

        Raises:
            InputError: `score` fails, or returns something other than a number within `limits`.
        """
        assert self.score is not None
        function = f"{self.score.__module__}.{self.score.__qualname__}"
        try:
            value = self.score(answers, weights)
        except Exception as error:  # It is code of another package.
            reason = f"{type(error).__name__}: {error}"
            raise InputError(
                f"the metric {self.name!r} cannot be computed: {function} raised {reason}"
            ) from error
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(
                f"the metric {self.name!r} is no number: {function} returned {shown(value)}, of type "
                f"{type(value).__name__}. Return a float."
            )
        least, most = self.limits
        if not (math.isnan(value) or least <= value <= most):
            raise InputError(
                f"the metric {self.name!r} is {float(value):g}, outside of its limits {least:g} to {most:g}: mend "
                f"{function}, or give Metric(limits=...)."
            )
        return float(value)


_ANY_ERROR = (0.0, math.inf)

METRICS: Registry[Metric] = Registry(
    "miniml.metrics",
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", "Accuracy", hub_name="accuracy"),
            Metric("balanced_accuracy", "Balanced accuracy", "mean recall of the classes"),
            Metric("macro_f1", "Macro F1", "mean over the classes", is_tile=True, hub_name="f1"),
            Metric("micro_f1", "Micro F1", "all labels pooled", is_tile=True, hub_name="f1"),
            Metric("weighted_f1", "Weighted F1", "by rows of the class"),
            Metric("mcc", "Matthews correlation", "0 is guessing", limits=(-1.0, 1.0), is_tile=True),
            Metric("roc_auc", "ROC-AUC", "each class against the rest", is_tile=True),
            Metric("pr_auc", "PR-AUC", "each class against the rest"),
            Metric("log_loss", "Log loss", "less is better", _ANY_ERROR, more_is_better=False),
            Metric(
                "calibration_error", "Calibration error", "less is better", more_is_better=False, is_tile=True
            ),
            Metric(
                "mean_absolute_error",
                "Mean absolute error",
                "in steps; less is better",
                _ANY_ERROR,
                more_is_better=False,
                hub_name="mae",
            ),
            Metric("off_by_one_accuracy", "Off by one at most", "fraction of rows", is_tile=True),
            Metric("subset_accuracy", "Subset accuracy", "all labels of a text right", hub_name="accuracy"),
            Metric(
                "hamming_loss",
                "Hamming loss",
                "fraction of labels that are wrong; less is better",
                more_is_better=False,
            ),
            Metric(
                "root_mean_squared_error",
                "Root mean squared error",
                "less is better",
                _ANY_ERROR,
                more_is_better=False,
            ),
            Metric(
                "r2",
                "R²",
                "0 is always answering the mean",
                (-math.inf, 1.0),
                is_tile=True,
                hub_name="r_squared",
            ),
            Metric("spearman", "Spearman", "correlation of ranks", (-1.0, 1.0), is_tile=True),
        )
    },
)
"""All metrics by name, in the order of the report's tiles."""

# Names that `best_by` gives another meaning.
_RESERVED = ("loss", "last")
# Endings of unregistered metrics' names for which less is better: "validation_loss".
_LESS_IS_BETTER = ("error", "loss")


def register_metric(metric: Metric) -> Metric:
    """Adds a metric to those of evaluation.

    The stages run in images of their own. One has the metric if your package is installed there, with an entry point in
    the group `miniml.metrics` that names the module (see `miniml.extensions`): evaluate needs it, and for `best_by` and
    `pick_by` preflight, train and the place from which the run is started as well.

    Returns:
        The metric itself.

    Raises:
        ValueError: the metric has no `score`, or its name is taken or not in lower case with underscores.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", metric.name):
        raise ValueError(f"the metric's name is {metric.name!r}. Write it in lower case with underscores.")
    if metric.score is None:
        raise ValueError(f"the metric {metric.name!r} has no score. Give the function that computes it.")
    if metric.name in _RESERVED:
        raise ValueError(f"{metric.name!r} is another choice of best_by. Give the metric another name.")
    METRICS.add(metric.name, metric)
    return metric


def added_metrics(task: str = "") -> list[Metric]:
    """Returns the metrics that were registered from outside: those of a task, or of all tasks."""
    return [metric for _, metric in METRICS.items() if metric.score and (not task or task in metric.tasks)]


def metric_named(name: str) -> Metric:
    """Returns the metric with that name; an unregistered one gets its name as title."""
    unknown = Metric(name, name, more_is_better=not name.endswith(_LESS_IS_BETTER))
    return METRICS.get(name, unknown)


def more_is_better(name: str) -> bool:
    """Returns whether larger values of the metric with that name are better."""
    return metric_named(name).more_is_better
