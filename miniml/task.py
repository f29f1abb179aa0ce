"""Defines the interface of a task: everything in which labels, models and answers differ from task to task."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from miniml.errors import InputError
from miniml.escaping import shown

Part = type | str
"""A class, or its name as "module:class"."""


@dataclass(frozen=True)
class Prediction(ABC):
    """What a model predicts for one text.

    Each task has a frozen dataclass of its own, whose fields are also those of the predictor's answers. What all have
    in common is `given`. `isinstance`, or the class as an argument of `miniml.Classifier.load`, gives the rest.
    """

    @property
    @abstractmethod
    def given(self) -> list[str]:
        """The labels that the text is given; none in a regression."""


class LabelSettings(Protocol):
    """The data settings that a task may refuse."""

    @property
    def label_names(self) -> str:
        """The names of the labels (see `miniml.settings.data.DataSettings`)."""
        ...

    @property
    def label_separator(self) -> str:
        """The separator of several labels in one string (see `miniml.settings.data.DataSettings`)."""
        ...


class Task(str):
    """The kind of a dataset's labels, and so of the model, its metrics and its answers.

    A task is a string, the name that settings and files have for it. Nothing outside `miniml.tasks` compares tasks: the
    code asks the task for what differs, and its folder defines that.

    - Attributes are what every image can use: names, and what the task has.
    - Parts are classes, at least one for each stage, that implement an interface of that stage. A part is named as
      "module:class", and imported when the stage asks for it, because the image of transform has no torch, and the
      gate's no NumPy.

    A new task subclasses this class or a similar task, overrides what differs, and is registered
    (`miniml.extensions.register_task`). Its parts may be the classes themselves.

    The interface assumes that a text has one row of outputs, by transformers' `AutoModelForSequenceClassification`. A
    task with an answer for each token also needs another kind of model in `miniml.training.pretrained` and
    `miniml.model.classifier`, outputs by token in the engines, and an output adapter in `serving`.
    """

    name: ClassVar[str]
    """The task's name in settings and files."""
    problem_type: ClassVar[str]
    """The one of transformers' three problem types that fits the task's models."""
    primary_metric: ClassVar[str]
    """The name of the metric that a model is first judged by, in evaluation and in training."""
    has_accuracy: ClassVar[bool] = True
    """Whether the primary metric is the fraction of rows that are answered correctly, from 0 to 1."""
    several_labels: ClassVar[bool] = False
    """Whether a text may have more than one label, or none."""
    one: ClassVar[str]
    """The word for one label: class, label, number."""
    many: ClassVar[str]
    """Its plural."""
    example_metric: ClassVar[str] = "macro_f1=0.7"
    """An example of `min_metrics` for the task."""
    metric_titles: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """A metric's title and hint in the report, by name, where they differ from those in `miniml.metrics`."""
    majority_answer: ClassVar[str] = "answering the most frequent class"
    """The report's words for a model that gives every text the same answer."""
    limit: ClassVar[str]
    """A sentence for the model card on texts that are unlike anything the model has learnt."""
    output_adapter: ClassVar[str]
    """The name of the predictor's output adapter (`serving`), which defines the shape of the protocols' answers."""

    labels: ClassVar[Part]
    """How transform reads and checks labels, a `miniml.data.label_scheme.LabelScheme`."""
    head: ClassVar[Part]
    """How a model's logits become predictions, a `miniml.model.heads.Head`."""
    target: ClassVar[Part]
    """The loss and the validation metrics of train, a `miniml.training.targets.Target`."""
    predictions: ClassVar[Part]
    """The answers to the test in evaluate, a `miniml.evaluation.predictions.Predictions`."""
    evaluator: ClassVar[Part]
    """The metrics, baseline and mistakes in evaluate, a `miniml.evaluation.evaluators.Evaluator`."""

    def __new__(cls) -> Self:
        return super().__new__(cls, cls.name)

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        # Copying and pickling would otherwise pass a string, which `__new__` does not take.
        return type(self), ()

    def part(self, name: str) -> Any:
        """Imports and returns one of the task's parts: "labels", "head", "target", "predictions" or "evaluator"."""
        part = getattr(self, name)
        return pkgutil.resolve_name(part) if isinstance(part, str) else part

    def validation_metric(self, asked: str) -> str:
        """Returns the validation metric that `best_by` or `pick_by` names: "accuracy" stands for the primary metric."""
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
        """Checks that the data settings suit the task.

        Raises:
            InputError: a setting does not suit it.
        """
        if settings.label_separator and not self.several_labels:
            raise InputError(
                f"label_separator is {shown(settings.label_separator)}, but task is {self}, in which a text has no "
                f"several labels. Set task to multi_label_classification, or leave label_separator out."
            )
