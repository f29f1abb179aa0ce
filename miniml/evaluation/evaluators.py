"""What there is to say of a model's answers to a test, task by task."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from miniml.errors import InputError
from miniml.evaluation.baseline import Baseline, LabelsBaseline, NumberBaseline
from miniml.evaluation.metrics import classification
from miniml.evaluation.metrics.multi_label import MultiLabelScores
from miniml.evaluation.metrics.regression import RegressionScores
from miniml.evaluation.predictions import LabelsPredictions, NumberPredictions, Predictions
from miniml.evaluation.result import Calibration, ClassScores, Curves, Figure, Mistake, Sample, Scatter
from miniml.model import calibration, occlusion
from miniml.model.classifier import Classifier, Probabilities
from miniml.model.heads import OneNumber, SeveralLabels, several
from miniml.settings.evaluation import EvaluationSettings
from miniml.tasks.task import Task

# Explained at the cost of as many texts each; together a few seconds of a small encoder.
MISTAKES, TEXTS_A_MISTAKE = 6, 32
# Points of a curve: more than a picture of its size can show.
CURVE_POINTS = 101
# Dots that one can still tell apart.
SCATTER_POINTS = 500
# How far a served number may lie from the evaluated one, in standard deviations of the labels.
DEVIATIONS_OFF = 0.05


@dataclass(frozen=True)
class Scores:
    """The figures of some answers."""

    figures: dict[str, Figure]
    classes: list[ClassScores] = field(default_factory=list)
    confusion_matrix: list[list[int]] = field(default_factory=list)

    @classmethod
    def of(cls, computed: dict[str, Any], labels: Sequence[str] = ()) -> Scores:
        """What a module of metrics has computed."""
        return cls(
            {name: Figure(*figure) for name, figure in computed["figures"].items()},
            [
                ClassScores(label, **of_label)
                for label, of_label in zip(labels, computed.get("per_class", []), strict=True)
            ],
            computed.get("confusion_matrix", []),
        )


class Examination(ABC):
    """How one model is looked at."""

    predictions: ClassVar[type[Predictions]]

    def __init__(self, classifier: Classifier, settings: EvaluationSettings) -> None:
        """
        Raises:
            InputError: the settings ask for what the task has not.
        """
        self.classifier = classifier
        self.labels = classifier.labels
        self._require_order(settings)

    def _require_order(self, settings: EvaluationSettings) -> None:
        if settings.ordered_labels == "yes":
            raise InputError(
                f"ordered_labels is 'yes', but the model does {self.classifier.head.task}, in which a text does not "
                f"have one of several classes. Set ordered_labels to auto or no."
            )

    @abstractmethod
    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        """The dataset's column `label` in the form of `Predictions.references`."""

    @abstractmethod
    def scores(self, predictions: Predictions) -> Scores:
        """The figures of these answers."""

    @abstractmethod
    def baseline(self) -> Baseline:
        """A simple model for the same task, not trained yet."""

    @abstractmethod
    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        """The one answer, shape [width], that is best for `references`, those of training, if texts are not read."""

    @abstractmethod
    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        """The worst of them, the worst first."""

    @abstractmethod
    def sample(self, text: str, outputs: Probabilities) -> Sample:
        """The answer to one text, shape [width], for deploy to hold the served one against."""

    def more_facts(self) -> dict[str, Any]:
        """What the task's predictions tell beside what all do."""
        return {}

    def majority_share(self, predictions: Predictions) -> float | None:
        """The share of rows that always giving the most frequent answer gets right."""
        names = predictions.names(predictions.references)
        ((_, rows),) = Counter(map(str, names)).most_common(1)
        return rows / len(names)

    def calibration(self, predictions: Predictions) -> Calibration | None:
        """How far the probabilities mean what they say, where they are one distribution."""
        return None

    def curves(self, predictions: Predictions) -> Curves | None:
        """Where there are probabilities, and not all rows alike."""
        return None

    def scatter(self, predictions: Predictions) -> Scatter | None:
        """Where answers are numbers."""
        return None


class OneClassExamination(Examination):
    """Of a model that gives a text one class."""

    predictions = Predictions

    def _require_order(self, settings: EvaluationSettings) -> None:
        self._ranks = ranks_of(self.labels, settings.ordered_labels)

    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        return np.array(column, dtype=np.int64)

    def scores(self, predictions: Predictions) -> Scores:
        module = classification.ClassificationScores(**classification.in_memory())
        computed = module.compute(
            predictions=predictions.probabilities,
            references=predictions.references,
            ranks=self._ranks,
            groups=predictions.groups,
        )
        return Scores.of(computed, self.labels)

    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        most_frequent: Probabilities = np.eye(len(self.labels), dtype=np.float32)[
            np.bincount(references).argmax()
        ]
        return most_frequent

    def baseline(self) -> Baseline:
        return Baseline(len(self.labels))

    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        wrong = np.flatnonzero(~predictions.right)
        surest = wrong[np.argsort(-predictions.probabilities[wrong].max(axis=1), kind="stable")[:MISTAKES]]
        return [
            Mistake(
                row=int(predictions.row_numbers[row]),
                label=self.labels[predictions.references[row]],
                predicted=self.labels[predictions.predicted[row]],
                score=float(predictions.probabilities[row].max()),
                pieces=occlusion.explain(
                    self.classifier, predictions.texts[row], int(predictions.predicted[row]), TEXTS_A_MISTAKE
                ),
            )
            for row in surest
        ]

    def sample(self, text: str, outputs: Probabilities) -> Sample:
        return Sample(text, dict(zip(self.labels, map(float, outputs), strict=True)))

    def calibration(self, predictions: Predictions) -> Calibration | None:
        uncalibrated = calibration.softmax(predictions.logits.astype(np.float64))
        right, groups, references = predictions.right, predictions.groups, predictions.references
        before, after = (
            classification.calibration_error(probabilities.max(axis=1).astype(np.float64), right, groups)[0]
            for probabilities in (uncalibrated, predictions.probabilities)
        )
        return Calibration(
            temperature=predictions.temperature,
            before=classification.reliability(uncalibrated, references),
            after=classification.reliability(predictions.probabilities, references),
            calibration_error_before=before,
            calibration_error_after=after,
            log_loss_before=classification.log_loss(uncalibrated, references),
            log_loss_after=classification.log_loss(predictions.probabilities, references),
        )

    def curves(self, predictions: Predictions) -> Curves | None:
        if len(set(predictions.references.tolist())) < 2:
            return None
        true = np.eye(len(self.labels), dtype=bool)[predictions.references]
        return _curves(predictions.probabilities, true)


class LabelsExamination(Examination):
    """Of a model that may give a text several labels."""

    predictions = LabelsPredictions

    def __init__(self, classifier: Classifier, settings: EvaluationSettings) -> None:
        super().__init__(classifier, settings)
        assert isinstance(classifier.head, SeveralLabels)
        self._threshold = classifier.head.threshold

    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        return several(column, len(self.labels))

    def scores(self, predictions: Predictions) -> Scores:
        module = MultiLabelScores(**classification.in_memory())
        computed = module.compute(
            predictions=predictions.probabilities,
            references=predictions.references.astype(np.float32),
            threshold=self._threshold,
            groups=predictions.groups,
        )
        return Scores.of(computed, self.labels)

    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        rows, counts = np.unique(references, axis=0, return_counts=True)
        most_frequent: Probabilities = rows[counts.argmax()].astype(np.float32)
        return most_frequent

    def baseline(self) -> Baseline:
        return LabelsBaseline(len(self.labels))

    def more_facts(self) -> dict[str, Any]:
        return {"threshold": self._threshold}

    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        """Of each row the label that is most confidently given or denied against the truth."""
        off = np.abs(predictions.probabilities - predictions.references) * (
            predictions.predicted != predictions.references
        )
        worst = np.argsort(-off.max(axis=1), kind="stable")[:MISTAKES]
        return [
            self._mistake(predictions, int(row), int(off[row].argmax())) for row in worst if off[row].any()
        ]

    def _mistake(self, predictions: Predictions, row: int, place: int) -> Mistake:
        probability = float(predictions.probabilities[row, place])
        denied = bool(predictions.references[row, place])
        (names,) = predictions.names(predictions.references[row : row + 1])
        return Mistake(
            row=int(predictions.row_numbers[row]),
            label=", ".join(names) or "none of the labels",
            predicted=f"not {self.labels[place]}" if denied else self.labels[place],
            score=1 - probability if denied else probability,
            pieces=occlusion.explain(
                self.classifier, predictions.texts[row], place, TEXTS_A_MISTAKE, denied=denied
            ),
        )

    def sample(self, text: str, outputs: Probabilities) -> Sample:
        return Sample(text, dict(zip(self.labels, map(float, outputs), strict=True)))

    def curves(self, predictions: Predictions) -> Curves | None:
        if predictions.references.all() or not predictions.references.any():
            return None
        return _curves(predictions.probabilities, predictions.references)


class NumberExamination(Examination):
    """Of a model that gives a text a number."""

    predictions = NumberPredictions

    def __init__(self, classifier: Classifier, settings: EvaluationSettings) -> None:
        super().__init__(classifier, settings)
        assert isinstance(classifier.head, OneNumber)
        self._tolerance = DEVIATIONS_OFF * classifier.head.deviation

    def references(self, column: Sequence[Any]) -> npt.NDArray[Any]:
        return np.array(column, dtype=np.float64)

    def scores(self, predictions: Predictions) -> Scores:
        module = RegressionScores(**classification.in_memory())
        return Scores.of(
            module.compute(
                predictions=predictions.predicted,
                references=predictions.references,
                groups=predictions.groups,
            )
        )

    def constant(self, references: npt.NDArray[Any]) -> Probabilities:
        return np.array([np.median(references)], dtype=np.float32)

    def baseline(self) -> Baseline:
        return NumberBaseline(1)

    def majority_share(self, predictions: Predictions) -> float | None:
        return None

    def mistakes(self, predictions: Predictions) -> list[Mistake]:
        assert isinstance(predictions, NumberPredictions)
        worst = np.argsort(-predictions.errors, kind="stable")[:MISTAKES]
        return [
            Mistake(
                row=int(predictions.row_numbers[row]),
                label=f"{predictions.references[row]:.4g}",
                predicted=f"{predictions.predicted[row]:.4g}",
                score=float(predictions.errors[row]),
                pieces=occlusion.explain(self.classifier, predictions.texts[row], 0, TEXTS_A_MISTAKE),
            )
            for row in worst
        ]

    def sample(self, text: str, outputs: Probabilities) -> Sample:
        return Sample(text, {}, float(outputs[0]), self._tolerance)

    def scatter(self, predictions: Predictions) -> Scatter | None:
        order = np.argsort(predictions.references, kind="stable")
        kept = order[np.unique(np.linspace(0, len(order) - 1, SCATTER_POINTS).astype(int))]
        return Scatter(predictions.references[kept].tolist(), predictions.predicted[kept].tolist())


def examination_of(classifier: Classifier, settings: EvaluationSettings) -> Examination:
    """The examination of the model's task.

    Raises:
        InputError: the settings ask for what the task has not.
    """
    examinations: dict[Task, type[Examination]] = {
        Task.SINGLE_LABEL: OneClassExamination,
        Task.MULTI_LABEL: LabelsExamination,
        Task.REGRESSION: NumberExamination,
    }
    return examinations[classifier.head.task](classifier, settings)


def ranks_of(labels: Sequence[str], ordered: str) -> list[int] | None:
    """The place of each label in their order; None where they have none.

    Args:
        labels: The classes' names.
        ordered: "yes", "no", or "auto": three or more names that are numbers, or begin with one ("4 stars"), have an
            order.

    Raises:
        InputError: "yes", for fewer than three labels.
    """
    if ordered == "no":
        return None
    if len(labels) < 3:
        if ordered == "yes":
            raise InputError(
                f"ordered_labels is 'yes', but there are {len(labels)} classes ({', '.join(labels)}), and an order "
                f"tells something of 3 or more. Set ordered_labels to auto or no."
            )
        return None
    numbers = [re.match(r"\s*([-+]?\d+(?:\.\d+)?)(?![\w.])", label) for label in labels]
    found = [float(number[1]) for number in numbers if number]
    if len(found) == len(set(found)) == len(labels):
        return [sorted(found).index(number) for number in found]
    return list(range(len(labels))) if ordered == "yes" else None


def _curves(probabilities: Probabilities, true: npt.NDArray[np.bool_]) -> Curves:
    """Each probability of each row is one claim that the row has that label; `true` says which it has."""
    claims, true = probabilities.ravel().astype(np.float64), true.ravel()
    order = np.argsort(-claims, kind="stable")
    found = np.cumsum(true[order])
    # Equal probabilities stand and fall together.
    ends = np.append(np.flatnonzero(np.diff(claims[order])), len(claims) - 1)
    # Evenly along the curve, which both rates make.
    along = (found[ends] / found[-1] + (ends + 1 - found[ends]) / (len(claims) - found[-1])) / 2
    kept = ends[np.unique(np.searchsorted(along, np.linspace(0, 1, CURVE_POINTS)).clip(max=len(ends) - 1))]
    recall, wrong = found[kept] / found[-1], kept + 1 - found[kept]
    return Curves(
        thresholds=claims[order][kept].tolist(),
        false_positive_rate=(wrong / (len(claims) - found[-1])).tolist(),
        recall=recall.tolist(),
        precision=(found[kept] / (kept + 1)).tolist(),
    )
