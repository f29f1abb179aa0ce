"""From what a model's last layer says of a text to its answer: a class, several labels, or a number.

Everything that depends on the task once the model has been trained is said here; `Classifier` has one of these.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from miniml.model import calibration
from miniml.tasks.task import Task

Logits = npt.NDArray[np.float32]
Outputs = npt.NDArray[np.float32]
"""What is served of texts, shape [..., width]: a probability for each label, or a number."""

# No probability counts as nearer to 0 or 1: its log-odds would tell of rounding, not of words.
EPS = 1e-6
# A label is given where its probability is at least this. The temperature moves no probability across it.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Prediction:
    """The answer for one text, which has one class."""

    label: str
    score: float
    """The probability of `label`, the largest of them."""
    probabilities: dict[str, float]
    """Every class's probability by its name, in the model's order; they sum to 1."""

    @property
    def given(self) -> list[str]:
        """The labels that the text is given."""
        return [self.label]


@dataclass(frozen=True)
class LabelsPrediction:
    """The answer for one text, which may have several labels, or none."""

    labels: list[str]
    """Those whose probability reaches the model's threshold, in the model's order."""
    probabilities: dict[str, float]
    """Every label's probability by its name, in the model's order, each by itself."""

    @property
    def given(self) -> list[str]:
        """The labels that the text is given."""
        return self.labels


@dataclass(frozen=True)
class NumberPrediction:
    """The answer for one text, which has a number."""

    value: float
    """In the unit of the labels that the model was trained on."""

    @property
    def given(self) -> list[str]:
        """The labels that the text is given: a number is none."""
        return []


class Head(ABC):
    """What the logits of one model mean."""

    task: ClassVar[Task]
    differs_in: ClassVar[str] = "in a probability"
    """What `disagreement` tells of."""

    def __init__(self, labels: tuple[str, ...], temperature: float = 1.0) -> None:
        self.labels = labels
        """The classes' names; none of a regression."""
        self.temperature = temperature
        """What the logits are divided by before they become probabilities (see `miniml.model.calibration`)."""

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
    def answer(self, outputs: Outputs) -> Any:
        """The answer that one text's outputs, shape [width], stand for: one of the three predictions above."""

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


class OneClass(Head):
    """Exactly one of the classes; probabilities by softmax."""

    task = Task.SINGLE_LABEL

    def outputs(self, logits: Logits) -> Outputs:
        return calibration.softmax(self.scaled(logits)).astype(np.float32, copy=False)

    def answer(self, outputs: Outputs) -> Prediction:
        row: list[float] = outputs.tolist()
        best = max(range(len(row)), key=row.__getitem__)
        return Prediction(self.labels[best], row[best], dict(zip(self.labels, row, strict=True)))

    def margin(self, logits: Logits) -> float:
        return lead(logits)

    def disagreement(self, found: Logits, expected: Logits) -> float:
        """On a text that the model is sure of, an error in the logits hardly moves the probabilities; where it is in
        doubt, an error of d between two logits moves them by up to tanh(d / 4). That is what is told, so that a few
        sure texts do not pass for agreement.
        """
        return math.tanh(float(np.ptp(found - expected, axis=1).max()) / 4)


class SeveralLabels(Head):
    """Each label by itself; probabilities by the logistic function."""

    task = Task.MULTI_LABEL

    def __init__(
        self, labels: tuple[str, ...], temperature: float = 1.0, threshold: float = THRESHOLD
    ) -> None:
        super().__init__(labels, temperature)
        self.threshold = threshold

    def outputs(self, logits: Logits) -> Outputs:
        return calibration.logistic(self.scaled(logits)).astype(np.float32, copy=False)

    def given(self, outputs: Outputs) -> npt.NDArray[np.bool_]:
        """Which labels the texts with these outputs, shape [..., width], are given."""
        given: npt.NDArray[np.bool_] = outputs >= np.float32(self.threshold)
        return given

    def answer(self, outputs: Outputs) -> LabelsPrediction:
        return LabelsPrediction(
            [label for label, given in zip(self.labels, self.given(outputs).tolist(), strict=True) if given],
            dict(zip(self.labels, outputs.tolist(), strict=True)),
        )

    def margin(self, logits: Logits) -> float:
        least = math.log(self.threshold / (1 - self.threshold)) * self.temperature
        return float(np.abs(logits - least).min())

    def disagreement(self, found: Logits, expected: Logits) -> float:
        """An error of d in a logit moves the probability of a label in doubt by up to tanh(d / 4)."""
        return math.tanh(float(np.abs(found - expected).max()) / 4)


class OneNumber(Head):
    """A number, which the model gives in standard deviations from the mean of the labels that it was trained on."""

    task = Task.REGRESSION
    differs_in = "of the labels' standard deviation"

    def __init__(self, mean: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__(())
        self.mean, self.deviation = mean, deviation

    @property
    def width(self) -> int:
        return 1

    def outputs(self, logits: Logits) -> Outputs:
        return (logits.astype(np.float64) * self.deviation + self.mean).astype(np.float32)

    def answer(self, outputs: Outputs) -> NumberPrediction:
        return NumberPrediction(float(outputs[0]))

    def evidence(self, output: float) -> float:
        return output

    def margin(self, logits: Logits) -> float:
        """No number is in doubt; a larger one leaves more room to round it otherwise."""
        return -float(np.abs(logits[0]))

    def disagreement(self, found: Logits, expected: Logits) -> float:
        return float(np.abs(found - expected).max())


def lead(logits: Logits) -> float:
    """By how much the best of the logits leads the second."""
    second, best = np.sort(logits)[-2:]
    return float(best - second)


def several(rows: Sequence[Sequence[int]], labels: int) -> npt.NDArray[np.bool_]:
    """Which labels each row has, shape [rows, labels], from their places in a list for each row."""
    has = np.zeros((len(rows), labels), dtype=np.bool_)
    for row, places in enumerate(rows):
        has[row, places] = True
    return has


def keep(config: Any, head: Head) -> None:
    """Writes into a model's config what `read` finds there."""
    config.problem_type = str(head.task)
    labels = head.labels or ("value",)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    if isinstance(head, SeveralLabels):
        config.label_threshold = head.threshold
    if isinstance(head, OneNumber):
        config.label_mean, config.label_deviation = head.mean, head.deviation


def read(config: Any, temperature: float) -> Head:
    """The head of a model with this config. One that names no task has one class for each text."""
    task = Task(config.problem_type or Task.SINGLE_LABEL)
    if task == Task.REGRESSION:
        return OneNumber(getattr(config, "label_mean", 0.0), getattr(config, "label_deviation", 1.0))
    labels = tuple(config.id2label[index] for index in range(config.num_labels))
    if task == Task.MULTI_LABEL:
        return SeveralLabels(labels, temperature, getattr(config, "label_threshold", THRESHOLD))
    return OneClass(labels, temperature)
