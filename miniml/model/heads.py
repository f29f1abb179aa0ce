"""Defines the interface that turns a model's logits into predictions; each task has a head of its own.

A head has everything that depends on the task once the model has been trained. A `Classifier` has one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeVar  # Python 3.13's, which has defaults.

from miniml.task import Prediction, Task
from miniml.task_registry import DEFAULT, find_task

Logits = npt.NDArray[np.float32]
Outputs = npt.NDArray[np.float32]
"""The served outputs of texts, shape [..., width]: a probability for each label, or a number."""
PredictionT_co = TypeVar("PredictionT_co", bound=Prediction, covariant=True, default=Prediction)
"""The class of a model's predictions. `Head` and `Classifier` alone are those of a model of any task."""

# Probabilities are clipped to this distance from 0 and 1: beyond it, log-odds show rounding.
EPS = 1e-6
# The config's key for the task's name, where it differs from transformers' own `problem_type`.
_TASK = "miniml_task"


class Head(ABC, Generic[PredictionT_co]):
    """Turns the logits of one model into predictions."""

    task: Task
    prediction_type: type[PredictionT_co]
    """The class of the predictions."""
    differs_in: ClassVar[str] = "in a probability"
    """The unit of `disagreement`, in words."""

    def __init__(
        self, labels: tuple[str, ...], temperature: float = 1.0, *, task: Task | None = None
    ) -> None:
        """
        Args:
            labels: The labels' names; empty in a regression.
            temperature: The divisor of the logits.
            task: The model's task, where it is another than the head's own, of which it reuses the head.
        """
        if task is not None:
            self.task = task
        self.labels = labels
        """The labels' names; empty in a regression."""
        self.temperature = temperature
        """The divisor of the logits before they become probabilities (see `miniml.model.calibration`)."""

    @classmethod
    @abstractmethod
    def read(cls, config: Any, temperature: float, task: Task) -> Self:
        """Reads the head from a model's config.

        Args:
            config: The config of transformers, as `write` left it.
            temperature: The divisor of the logits.
            task: The model's task.
        """

    def write(self, config: Any) -> None:
        """Writes the head into a model's config, where `read` finds it."""
        labels = self.labels or ("value",)
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}

    @property
    def width(self) -> int:
        """The number of logits of a text."""
        return len(self.labels)

    def scaled(self, logits: Logits) -> Logits:
        """Divides the logits by the temperature: shape [..., width]."""
        return logits / np.float32(self.temperature)

    @abstractmethod
    def outputs(self, logits: Logits) -> Outputs:
        """Converts logits, shape [..., width], to outputs of the same shape: probabilities, or numbers."""

    @abstractmethod
    def prediction(self, outputs: Outputs) -> PredictionT_co:
        """Returns the prediction of one text's outputs, shape [width]."""

    def answer_settings(self) -> dict[str, Any]:
        """Returns what turns outputs into answers, besides the labels, by the names of the fields of `Predictions`."""
        return {}

    def attribution_target(self, outputs: Outputs) -> int:
        """Returns the index of the output that is explained by default: the most probable label's, or the number's."""
        return int(outputs.argmax())

    def link(self, output: float) -> float:
        """Maps an output to the scale on which attributions are measured: a probability to its log-odds.

        It is the link function of a generalized linear model; a number stays as it is.
        """
        output = min(max(output, EPS), 1 - EPS)
        return math.log(output / (1 - output))

    @abstractmethod
    def margin(self, logits: Logits) -> float:
        """Returns the distance of one text's logits, shape [width], from another answer."""

    @abstractmethod
    def disagreement(self, found: Logits, expected: Logits) -> float:
        """Returns the largest difference that an engine's outputs may have from the reference's.

        Args:
            found: The engine's scaled logits, shape [texts, width].
            expected: The reference's, of the same shape.

        Returns:
            A difference in the unit of `differs_in`; nan where a logit is nan.
        """

    def take_over(self, before: Self, weight: Any, bias: Any) -> str:
        """Adapts the last layer of a model with the head `before` to this head, which has the same task and labels.

        Args:
            before: The head that the layer was trained for.
            weight: The layer's weights, a tensor of shape [width, size], which is changed in place.
            bias: Its bias, a tensor of shape [width], likewise; or None.

        Returns:
            A remark for the log; empty if there is none.
        """
        if before.labels == self.labels:
            return ""
        order = [before.labels.index(label) for label in self.labels]
        weight.copy_(weight[order])
        if bias is not None:
            bias.copy_(bias[order])
        return "the pretrained head has the same classes in another order: they are matched by name"


def lead(logits: Logits) -> float:
    """Returns the difference of the two largest logits, of shape [width]."""
    second, best = np.sort(logits)[-2:]
    return float(best - second)


def write_head(config: Any, head: Head) -> None:
    """Writes a head and its task into a model's config, where `read_head` finds them."""
    task = head.task
    config.problem_type = task.problem_type
    vars(config).pop(_TASK, None)
    if task != task.problem_type:
        setattr(config, _TASK, str(task))
    head.write(config)


def read_head(config: Any, temperature: float) -> Head[Any]:
    """Reads the head of a model from its config; a config without a task means one class for each text."""
    task = find_task(getattr(config, _TASK, None) or config.problem_type or DEFAULT)
    head: type[Head[Any]] = task.part("head")
    return head.read(config, temperature, task)


def labels_of(config: Any) -> tuple[str, ...]:
    """Returns the labels' names of a model's config, in the order of its outputs."""
    return tuple(config.id2label[index] for index in range(config.num_labels))
