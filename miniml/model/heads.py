"""From what a model's last layer says of a text to its answer, whatever the task: each has a head of its own.

Everything that depends on the task once the model has been trained is said by its head; `Classifier` has one of these.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from miniml.task import Task
from miniml.task_registry import DEFAULT, find_task

Logits = npt.NDArray[np.float32]
Outputs = npt.NDArray[np.float32]
"""What is served of texts, shape [..., width]: a probability for each label, or a number."""

# No probability counts as nearer to 0 or 1: its log-odds would tell of rounding, not of words.
EPS = 1e-6
# Of a model's config: the name of its task, where transformers' own `problem_type` is another one.
_TASK = "miniml_task"


class Answer(Protocol):
    """What a model says of one text: a dataclass of the task's, whose fields the predictor's answers have."""

    @property
    def given(self) -> list[str]:
        """The labels that the text is given."""
        ...


class Head(ABC):
    """What the logits of one model mean."""

    task: Task
    differs_in: ClassVar[str] = "in a probability"
    """What `disagreement` tells of."""

    def __init__(
        self, labels: tuple[str, ...], temperature: float = 1.0, *, task: Task | None = None
    ) -> None:
        if task is not None:  # One that has this head too, though it stands in another one's folder.
            self.task = task
        self.labels = labels
        """The classes' names; none of a regression."""
        self.temperature = temperature
        """What the logits are divided by before they become probabilities (see `miniml.model.calibration`)."""

    @classmethod
    @abstractmethod
    def read(cls, config: Any, temperature: float, task: Task) -> Self:
        """Gives the head of a model of `task` with this config, as `write` left it."""

    def write(self, config: Any) -> None:
        """Writes into a model's config what `read` finds there."""
        labels = self.labels or ("value",)
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}

    @property
    def width(self) -> int:
        """How many numbers the model gives a text."""
        return len(self.labels)

    def scaled(self, logits: Logits) -> Logits:
        """The logits over the temperature, shape [..., width], of which `outputs` are made."""
        return logits / np.float32(self.temperature)

    @abstractmethod
    def outputs(self, logits: Logits) -> Outputs:
        """What is served of texts with these `logits`, shape [..., width]."""

    @abstractmethod
    def answer(self, outputs: Outputs) -> Answer:
        """The answer that one text's outputs, shape [width], stand for."""

    def focus(self, outputs: Outputs) -> int:
        """The place in one text's outputs that an explanation is of: the most probable label, or the number."""
        return int(outputs.argmax())

    def evidence(self, output: float) -> float:
        """What explanations count in: log-odds of a probability, or the number's own unit."""
        output = min(max(output, EPS), 1 - EPS)
        return math.log(output / (1 - output))

    @abstractmethod
    def margin(self, logits: Logits) -> float:
        """How far one text's logits, shape [width], are from another answer."""

    @abstractmethod
    def disagreement(self, found: Logits, expected: Logits) -> float:
        """How far an output may come to lie from the reference's, judging by scaled logits, shape [texts, width].

        nan where one of them is.
        """

    def take_over(self, before: Self, weight: Any, bias: Any) -> str:
        """Makes the last layer of a model that had the head `before` one for this head, of the same task and labels.

        Args:
            before: What the layer answers.
            weight: Its weights, a tensor of shape [width, size], which is changed in place.
            bias: A tensor of shape [width], likewise; or None.

        Returns:
            What there is to say of it, if anything.
        """
        if before.labels == self.labels:
            return ""
        order = [before.labels.index(label) for label in self.labels]
        weight.copy_(weight[order])
        if bias is not None:
            bias.copy_(bias[order])
        return "the pretrained head has the same classes in another order: they are matched by name"


def lead(logits: Logits) -> float:
    """By how much the best of the logits leads the second."""
    second, best = np.sort(logits)[-2:]
    return float(best - second)


def write_head(config: Any, head: Head) -> None:
    """Writes into a model's config what `read_head` finds there."""
    task = head.task
    config.problem_type = task.problem_type
    vars(config).pop(_TASK, None)
    if task != task.problem_type:
        setattr(config, _TASK, str(task))
    head.write(config)


def read_head(config: Any, temperature: float) -> Head:
    """Gives the head of a model with this config. One that names no task has one class for each text."""
    task = find_task(getattr(config, _TASK, None) or config.problem_type or DEFAULT)
    head: type[Head] = task.part("head")
    return head.read(config, temperature, task)


def labels_of(config: Any) -> tuple[str, ...]:
    """Gives the labels' names of a model's config, in the order of its outputs."""
    return tuple(config.id2label[index] for index in range(config.num_labels))
