"""Lists the metrics: how each is titled, which way is better, and, of those that are added, how it is computed.

To add one, register it. It is then computed by evaluation with its 95 % interval, for the model and the baseline; it
stands in metrics.json and in the report; and the gate takes it in `min_metrics`. Cohen's kappa would read:

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

Those without `score` are miniml's own, many of which come from one pass over the rows: see `metrics.py`
in each task's folder, `miniml/tasks/single_label/` say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miniml.extensions import Registry

if TYPE_CHECKING:  # The gate reads which way is better, and has no numpy.
    import numpy.typing as npt

SINGLE_LABEL = "single_label_classification"


@dataclass(frozen=True)
class Answers:
    """A model's answers to some rows, and the truth."""

    task: str
    """One of `miniml.task.Task`."""
    references: npt.NDArray[Any]
    """The truth: class indices, shape [rows]; with several labels 0 or 1, shape [rows, labels]; or numbers, [rows]."""
    predicted: npt.NDArray[Any]
    """The answers, in the form of `references`."""
    probabilities: npt.NDArray[Any]
    """Of each class or label, shape [rows, labels]; in a regression the numbers, shape [rows, 1]."""


@dataclass(frozen=True)
class Metric:
    """A figure of a model on some rows."""

    name: str
    """As metrics.json and `min_metrics` have it. In lower case, with underscores."""
    title: str
    """As the report has it."""
    hint: str = ""
    """A few words on how to read it."""
    limits: tuple[float, float] = (0.0, 1.0)
    """Between which values it lies."""
    more_is_better: bool = True
    """The gate runs in an image of its own. Where that has not got your package, it goes by the name: less is better of
    what ends in "error" or "loss"."""
    is_tile: bool = False
    """Whether it is among the few large figures at the top of the report."""
    hub_name: str = ""
    """Under which the Hugging Face hub lists it; empty where the hub has none."""
    tasks: tuple[str, ...] = (SINGLE_LABEL,)
    """Which tasks have it. Read where there is a `score`."""
    score: Callable[[Answers, npt.NDArray[Any]], float] | None = None
    """Computes it from answers and weights, shape [rows]: how often each row counts, as scikit-learn's `sample_weight`.
    It is asked up to a thousand times, with other weights, for the interval; nan says that nothing can be told. Where
    every row is answered rightly the interval has no width, for nobody knows what a mistake would cost."""


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
            Metric("off_by_one_accuracy", "Off by one at most", "share of rows", is_tile=True),
            Metric("subset_accuracy", "Subset accuracy", "all labels of a text right", hub_name="accuracy"),
            Metric(
                "hamming_loss",
                "Hamming loss",
                "share of labels that are wrong; less is better",
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
"""All of them by name, in the order in which the report's tiles stand."""

# How the names of metrics end of which less is better, where nobody has registered them: "validation_loss".
_LESS_IS_BETTER = ("error", "loss")


def register_metric(metric: Metric) -> Metric:
    """Adds a metric to those of evaluation.

    The evaluate stage runs in an image of its own, and has the metric too if your package is installed there and has
    an entry point in the group `miniml.metrics` that names the module (see `miniml.extensions`).

    Raises:
        ValueError: it has no `score`, or its name is taken.
    """
    if metric.score is None:
        raise ValueError(f"the metric {metric.name!r} has no score. Give the function that computes it.")
    METRICS.add(metric.name, metric)
    return metric


def metric_named(name: str) -> Metric:
    """Returns the metric of that name; one of no more than the name where nobody has registered it."""
    unknown = Metric(name, name, more_is_better=not name.endswith(_LESS_IS_BETTER))
    return METRICS.get(name, unknown)


def more_is_better(name: str) -> bool:
    """Tells whether a metric is the better the larger it is."""
    return metric_named(name).more_is_better
