"""Holds what evaluation found of a model, as metrics.json and every later stage have it.

The code that computes it is in other modules, so that the gate and deploy need no torch. The fields' names are the keys
of metrics.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from miniml.metrics import more_is_better
from miniml.model.attribution import Attribution
from miniml.task import Task
from miniml.task_registry import DEFAULT, find_task

# Classes of a confusion matrix that is shown. More are unreadable, and too many for an artifact's metadata.
MAX_CONFUSED = 30
OTHER_CLASSES = "(all other classes)"
LOSS_ERROR_RATE = 0.05
"""How often a smaller model may pass for not inferior that loses just as much as its margin."""


@dataclass(frozen=True)
class Estimate:
    """A metric's value on the test, with its confidence interval."""

    value: float
    low: float
    """The lower end of the 95 % interval, which contains the true value for 19 of 20 tests of this size."""
    high: float
    """The upper end of the 95 % interval."""


@dataclass(frozen=True)
class ClassScores:
    """The precision, recall and F1 of one class."""

    label: str
    precision: float
    recall: float
    f1: float
    rows: int
    """The number of test rows of this class."""


@dataclass(frozen=True)
class Slice:
    """A part of the test, with the primary metric on it."""

    column: str
    """The property that the test is sliced by: length, label, or a column of the source."""
    value: str
    rows: int
    figure: Estimate
    """The task's primary metric on the slice: accuracy, subset accuracy, or mean absolute error."""

    @property
    def accuracy(self) -> Estimate:
        """The primary metric, where it is an accuracy."""
        return self.figure


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix, small enough for a page and for an artifact's metadata."""

    labels: list[str]
    counts: list[list[int]]
    """Rows are true classes, columns predicted ones, in the order of `labels`."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of the model (the challenger) with the one that is served now (the champion), on the same rows."""

    champion_digest: str
    champion_figure: float
    """The champion's value of the metric `measure`."""
    only_challenger: int
    """The rows that only the challenger answers correctly; in a regression, those where its error is smaller."""
    only_champion: int
    """Likewise, the rows that only the champion answers correctly."""
    gain: Estimate
    """The improvement of the metric over the champion's, paired by row."""
    p_value: float
    """The one-sided p-value: how often a challenger that is not better would do at least this well by chance. It comes
    from McNemar's exact test for accuracies, and from a permutation test for errors (`miniml.evaluation.comparison`).
    """
    measure: str = DEFAULT.primary_metric
    """The name of the compared metric."""
    challenge: int = 1
    """The model's number among this champion's challengers on this test, from 1; 0 where they are not counted."""
    uncounted: str = ""
    """Why challengers are not counted; empty where they are."""

    @property
    def champion_accuracy(self) -> float:
        """The champion's metric, where it is an accuracy."""
        return self.champion_figure

    @property
    def is_of_errors(self) -> bool:
        """Whether the metric is an error, in the unit of the labels, and not a fraction."""
        return not more_is_better(self.measure)


@dataclass(frozen=True)
class NonInferiority:
    """A test whether a smaller model is worse than the full one by less than a margin, on the same rows."""

    comparison: Comparison
    """The smaller model, as the challenger, with the full one, as the champion."""
    max_loss: float
    """The margin: a fraction of the rows, or of the full model's error."""
    p_value: float
    """How often a model that loses just `max_loss` would do at least this well by chance
    (`miniml.evaluation.non_inferiority`)."""
    rows: int
    """The number of rows of the test."""
    rows_needed: int
    """The number of rows on which a model of the measured loss, and of no gain, would pass in 4 of 5 tests; 0 where it
    loses as much as the margin, or more."""

    @property
    def passed(self) -> bool:
        """Whether the smaller model is shown to lose less than the margin."""
        return self.p_value <= LOSS_ERROR_RATE


@dataclass(frozen=True)
class CompressedModel:
    """What became of the smaller model that compress had chosen, on the test rows, beside the full model."""

    digest: str
    full_digest: str
    test: NonInferiority
    speed_ratio: float
    """How many times as fast as the full model it is, as compress measured it."""

    @property
    def served(self) -> bool:
        """Whether it was evaluated, and may be served, in place of the full model."""
        return self.test.passed

    @property
    def sentence(self) -> str:
        """Its gain, its speed and what became of it, in one sentence."""
        gain, measure = self.test.comparison.gain, self.test.comparison.measure.replace("_", " ")
        scale, unit = (1.0, "") if self.test.comparison.is_of_errors else (100, " points")
        value, low, high = (
            f"{scale * each:+.3g}".replace("-", "−") for each in (gain.value, gain.low, gain.high)
        )
        interval = f"95 % interval {low} to {high}"
        told = f"smaller model: {value}{unit} of {measure} ({interval}), {self.speed_ratio:.2g} × as fast"
        shown = f"shown to lose less than max_loss {self.test.max_loss:g} (p = {self.test.p_value:.2g})"
        if self.served:
            return f"{told}: {shown}, so that it takes the full model's place"
        more = (
            f", for which it would take about {self.test.rows_needed:,} rows" if self.test.rows_needed else ""
        )
        return f"{told}: refused, because it is not {shown}{more}; the full model is evaluated"


@dataclass(frozen=True)
class ReliabilityBin:
    """The test rows whose answers have about the same probability."""

    confidence: float
    """The mean probability of their answers."""
    accuracy: float
    """The fraction of them that is correct."""
    rows: int


@dataclass(frozen=True)
class Calibration:
    """The calibration of the probabilities, without the model's temperature (before) and with it (after)."""

    temperature: float
    before: list[ReliabilityBin]
    after: list[ReliabilityBin]
    calibration_error_before: float
    calibration_error_after: float
    log_loss_before: float
    log_loss_after: float


@dataclass(frozen=True)
class Curves:
    """The micro-averaged ROC and precision-recall curves, at falling thresholds."""

    thresholds: list[float]
    false_positive_rate: list[float]
    recall: list[float]
    """Also called true positive rate."""
    precision: list[float]


@dataclass(frozen=True)
class Mistake:
    """A test row that the model answered incorrectly, with what led it there."""

    row: int
    label: str
    predicted: str
    score: float
    """The probability of `predicted`; in a regression the absolute error."""
    pieces: list[Attribution]
    """The parts of the text, in order, with their effects on the answer."""


@dataclass(frozen=True)
class Speed:
    """The latency of single texts on the machine that evaluated, on the reference engine; a server may be faster."""

    engine: str
    threads: int
    p50_ms: float
    """The median, in milliseconds."""
    p95_ms: float
    """The 95th percentile, in milliseconds."""


@dataclass(frozen=True)
class Sample:
    """A test row and the model's answer, with which deploy compares the served model's."""

    text: str
    probabilities: dict[str, float]
    """Each label's probability by name; empty where the answer is a number."""
    value: float | None = None
    """The answer, where it is a number."""
    tolerance: float = 0.02
    """The largest accepted difference of a probability or of the number. Other processors and engines round
    differently; another model differs by far more."""


@dataclass(frozen=True)
class Scatter:
    """Labels and answers of some test rows of a regression, evenly spaced in the order of their labels."""

    labels: list[float]
    predicted: list[float]


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that evaluation found of one model on one test; the gate and the report read nothing else."""

    figures: dict[str, Estimate]
    """The metrics by name; the task's primary metric is always among them."""
    classes: list[ClassScores]
    confusion_matrix: list[list[int]]
    """Rows are true classes, columns predicted ones, in the order of `classes`; empty where a text does not have
    exactly one class."""
    test_rows: int
    majority_share: float | None
    """The accuracy of always giving the most frequent answer, a fraction; None where answers are numbers."""
    texts_per_second: float
    model_digest: str
    data_fingerprint: str
    samples: list[Sample]
    """A short, a medium and a long test row."""
    slices: list[Slice] = field(default_factory=list)
    """The slices, the worst first."""
    small_slices: list[Slice] = field(default_factory=list)
    """The slices with too few rows to judge by, the largest first."""
    baseline: dict[str, Estimate] = field(default_factory=dict)
    """The same metrics of a simple model trained on the same rows; empty where none was."""
    baseline_name: str = ""
    """The baseline's name, and the number of rows that it was trained on."""
    baseline_comparison: Comparison | None = None
    """The comparison with the baseline; None where there is none."""
    comparison: Comparison | None = None
    """The comparison with the model that is served now; None where none is."""
    calibration: Calibration | None = None
    curves: Curves | None = None
    """None where the test has a single class, or numbers."""
    scatter: Scatter | None = None
    """None unless the task is a regression."""
    mistakes: list[Mistake] = field(default_factory=list)
    """The most confident mistakes, or in a regression the largest; the worst first."""
    speed: Speed | None = None
    majority_comparison: Comparison | None = None
    """The comparison with always giving training's most frequent answer, or the median of its numbers."""
    learnt_rows: int = 0
    """The number of test rows left out because the pretrained model had been trained on them."""
    groups: int | None = None
    """The number of groups that intervals and tests account for; None where rows are independent."""
    compressed: CompressedModel | None = None
    """The smaller model beside the full one; None where none met the test. `model_digest` says which of the two
    everything else is about."""
    left_out: str = ""
    """Why the smaller model did not meet the test, in words; "" where it did, or there is none."""
    task: Task = DEFAULT

    @property
    def accuracy(self) -> Estimate:
        """The accuracy, in tasks that have one of this name."""
        return self.figures["accuracy"]

    @property
    def headline(self) -> Estimate:
        """The task's primary metric."""
        return self.figures[self.task.primary_metric]

    def confusion(self) -> Confusion:
        """Returns the confusion matrix; with many classes, the most confused ones, and all others as one."""
        labels, matrix = [scores.label for scores in self.classes], self.confusion_matrix
        if len(matrix) <= MAX_CONFUSED:
            return Confusion(labels if matrix else [], matrix)
        wrong = [
            sum(given) + sum(taken) - 2 * given[place]
            for place, (given, taken) in enumerate(zip(matrix, zip(*matrix, strict=True), strict=True))
        ]
        worst = sorted(range(len(matrix)), key=lambda place: -wrong[place])[: MAX_CONFUSED - 1]
        kept = sorted(worst)
        place_of = dict.fromkeys(range(len(matrix)), len(kept)) | {
            place: row for row, place in enumerate(kept)
        }
        counts = [[0] * MAX_CONFUSED for _ in range(MAX_CONFUSED)]
        for true, row in enumerate(matrix):
            for predicted, count in enumerate(row):
                counts[place_of[true]][place_of[predicted]] += count
        return Confusion([*(labels[place] for place in kept), OTHER_CLASSES], counts)

    def scalars(self) -> dict[str, float]:
        """Returns the results that are single numbers, by the names that KFP's Metrics artifact has."""
        return {
            **{name: figure.value for name, figure in self.figures.items()},
            f"{self.task.primary_metric}_low": self.headline.low,
            f"{self.task.primary_metric}_high": self.headline.high,
            **({} if self.majority_share is None else {"majority_share": self.majority_share}),
            "test_rows": self.test_rows,
            "texts_per_second": self.texts_per_second,
            **{f"baseline_{name}": figure.value for name, figure in self.baseline.items()},
            **(
                {
                    "temperature": self.calibration.temperature,
                    "uncalibrated_error": self.calibration.calibration_error_before,
                }
                if self.calibration
                else {}
            ),
            **(
                {"latency_p50_ms": self.speed.p50_ms, "latency_p95_ms": self.speed.p95_ms}
                if self.speed
                else {}
            ),
            **(
                {
                    "compressed_served": float(self.compressed.served),
                    "speed_ratio": self.compressed.speed_ratio,
                }
                if self.compressed
                else {}
            ),
        }

    def save(self, path: Path) -> None:
        """Writes the result as JSON; the folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> EvaluationResult:
        """Reads what `save` wrote."""
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found: EvaluationResult = from_json(cls, stored)
        return found


def from_json(kind: Any, stored: Any) -> Any:
    """Converts JSON's values into the dataclasses, tasks, lists and dictionaries that the type `kind` names.

    Args:
        kind: A type.
        stored: What `json.loads` read of an object of this type, as `dataclasses.asdict` gives it.

    Returns:
        An object of the type.
    """
    inner = get_args(kind)
    if kind is Task:
        return find_task(stored)
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{name: from_json(kinds[name], value) for name, value in stored.items()})  # type: ignore[operator]
    if get_origin(kind) is list:
        return [from_json(inner[0], one) for one in stored]
    if get_origin(kind) is dict:
        return {name: from_json(inner[1], one) for name, one in stored.items()}
    if inner and stored is not None:  # A union is always X | None.
        return from_json(inner[0], stored)
    return stored
