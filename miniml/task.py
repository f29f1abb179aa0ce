"""The interface of a task: what every stage asks where labels, models and answers differ from task to task."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

from miniml.errors import InputError
from miniml.escaping import shown

Part = type | str
"""A class, or where to find it: "module:class"."""


class LabelSettings(Protocol):
    """The data settings that a task may have to refuse."""

    @property
    def label_names(self) -> str:
        """See `miniml.settings.data.DataSettings`."""
        ...

    @property
    def label_separator(self) -> str:
        """Likewise."""
        ...


class Task(str):
    """The kind of a dataset's labels, and so of the model, its metrics and its answers.

    A task is the string that settings and files name it by. Nothing outside `miniml.tasks` asks which one it is: what
    differs is asked of the task, and its folder has it all.

    - What every image can do with it is said by the attributes here: names, words, and what the task has and has not.
    - The rest are its parts, one a stage, each with an interface of that stage. A part is named as "module:class" and
      imported where the stage asks for it, because the image of transform has no torch, and the gate's no NumPy.

    A new task subclasses this one, or a task that it is like, overrides what differs, and is registered
    (`miniml.tasks.register`). A part may then be given as the class itself.

    What the interface leaves out: a text has one row of outputs, by a model of transformers' kind
    `AutoModelForSequenceClassification`. A task with an answer for each token needs besides its parts another kind of
    model in `miniml.training.pretrained` and `miniml.model.classifier`, outputs by token in the engines, and an output
    adapter in `serving`.
    """

    name: ClassVar[str]
    """What settings and files call it."""
    problem_type: ClassVar[str]
    """Which of transformers' three problem types a model of the task is to transformers."""
    primary_metric: ClassVar[str]
    """The metric of the test that a model is first judged by; evaluation and training have it under this name."""
    has_accuracy: ClassVar[bool] = True
    """Whether the primary metric is a share of the rows that are answered rightly, from 0 to 1."""
    several_labels: ClassVar[bool] = False
    """Whether a text may have more than one label, or none."""
    one: ClassVar[str]
    """What one label is called: class, label, number."""
    many: ClassVar[str]
    """What several of them are called."""
    example_metric: ClassVar[str] = "macro_f1=0.7"
    """What `min_metrics` might ask of a model of the task."""
    metric_titles: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """By name, how the report calls a metric, and a hint, where not as `miniml.metrics.METRICS` has it."""
    majority_answer: ClassVar[str] = "answering the most frequent class"
    """What a model does that gives every text the same answer, in the report's words."""
    limit: ClassVar[str]
    """A sentence for the model card: what a model of the task does with a text that is of nothing it has learnt."""
    output_adapter: ClassVar[str]
    """The name of the predictor's output adapter (`serving`), which has the shape of the protocols' answers."""

    labels: ClassVar[Part]
    """Of transform: how labels are read and checked, a `miniml.data.label_scheme.LabelScheme`."""
    head: ClassVar[Part]
    """Of the model: what its logits mean, a `miniml.model.heads.Head`."""
    target: ClassVar[Part]
    """Of train: the loss, and the metrics of validation, a `miniml.training.targets.Target`."""
    predictions: ClassVar[Part]
    """Of evaluate: the answers to the test, a `miniml.evaluation.predictions.Predictions`."""
    evaluator: ClassVar[Part]
    """Of evaluate: metrics, baseline, mistakes, a `miniml.evaluation.evaluators.Evaluator`."""

    def __new__(cls) -> Self:
        return super().__new__(cls, cls.name)

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        # Copied and pickled without the string that `__new__` does not take.
        return type(self), ()

    def part(self, name: str) -> Any:
        """Gives the class of one of the task's parts: "labels", "head", "target", "predictions" or "evaluator"."""
        part = getattr(self, name)
        return pkgutil.resolve_name(part) if isinstance(part, str) else part

    def validation_metric(self, asked: str) -> str:
        """Gives the metric of validation that `best_by` and `pick_by` ask for: "accuracy" is the primary metric."""
        return self.primary_metric if asked == "accuracy" else asked

    def label_names(self, feature: Any) -> list[str] | None:
        """Returns the names of the labels of a dataset's column, in the order of their numbers.

        Args:
            feature: The column's feature, as the datasets library has it: a ClassLabel, a List, a Value.

        Returns:
            None where the column cannot hold labels of this task; an empty list where they have no names.
        """
        return None

    def check_data_settings(self, settings: LabelSettings) -> None:
        """Refuses data settings that make no sense for the task.

        Raises:
            InputError: `settings` ask for what the task has not.
        """
        if settings.label_separator and not self.several_labels:
            raise InputError(
                f"label_separator is {shown(settings.label_separator)}, but task is {self}, in which a text has no "
                f"several labels. Set task to multi_label_classification, or leave label_separator out."
            )
