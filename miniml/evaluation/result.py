"""The figures of one model on one test split, as every later stage reads them.

They stand apart from the code that computes them, so that the gate and deploy need no torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from miniml.metrics import more_is_better
from miniml.model.attribution import Piece
from miniml.task import Task
from miniml.task_registry import DEFAULT, find_task

# Of a confusion matrix that is shown: more cells nobody reads, and a million of them no metadata holds.
MAX_CONFUSED = 30
OTHER_CLASSES = "(all other classes)"


@dataclass(frozen=True)
class Figure:
    """A metric on the test, and how sure one can be of it."""

    value: float
    low: float
    """With `high`, the 95 % interval: with so many test rows, the true value lies in it 19 times out of 20."""
    high: float


@dataclass(frozen=True)
class ClassScores:
    """How well one class is told from the others."""

    label: str
    precision: float
    recall: float
    f1: float
    rows: int
    """Test rows of this class."""


@dataclass(frozen=True)
class Slice:
    """A part of the test, and how the model does on it."""

    column: str
    """What it was cut by: length, label, or a column of the source."""
    value: str
    rows: int
    figure: Figure
    """The task's measure on it: accuracy, subset accuracy, or mean absolute error."""

    @property
    def accuracy(self) -> Figure:
        """Its name where the measure is one."""
        return self.figure


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix that fits on a page, and into an artifact's metadata."""

    labels: list[str]
    counts: list[list[int]]
    """Rows: the true class; columns: the predicted one."""


@dataclass(frozen=True)
class Comparison:
    """The model (the challenger) and the one that is served now (the champion), on the same test rows."""

    champion_digest: str
    champion_figure: float
    """The champion's `measure`."""
    only_challenger: int
    """Rows that the challenger answers rightly and the champion does not; where answers are numbers, more nearly."""
    only_champion: int
    gain: Figure
    """By how much the challenger's figure is better than the champion's, paired by row."""
    p_value: float
    """One-sided: how often a challenger that is not better would look at least so good. Of accuracies exact (McNemar);
    of errors by exchanging the two models' answers at random, row by row."""
    measure: str = DEFAULT.primary_metric
    challenge: int = 1
    """The how manieth challenger of this champion on this test the model is; 0 where nobody counts."""
    uncounted: str = ""
    """Why nobody counts."""

    @property
    def champion_accuracy(self) -> float:
        """Its name where the measure is one."""
        return self.champion_figure

    @property
    def is_of_errors(self) -> bool:
        """Whether the figures are errors, in the unit of the labels, rather than shares."""
        return not more_is_better(self.measure)


@dataclass(frozen=True)
class ReliabilityBin:
    """The test rows whose answer had about one probability."""

    confidence: float
    """The mean probability of their answers."""
    accuracy: float
    rows: int


@dataclass(frozen=True)
class Calibration:
    """How far probabilities mean what they say, without the model's temperature and with it."""

    temperature: float
    before: list[ReliabilityBin]
    after: list[ReliabilityBin]
    calibration_error_before: float
    calibration_error_after: float
    log_loss_before: float
    log_loss_after: float


@dataclass(frozen=True)
class Curves:
    """Every class against the rest, all of them pooled (micro-average), at falling thresholds."""

    thresholds: list[float]
    false_positive_rate: list[float]
    recall: list[float]
    """Or true positive rate."""
    precision: list[float]


@dataclass(frozen=True)
class Mistake:
    """A test row that the model answered wrongly, and how sure it was."""

    row: int
    label: str
    predicted: str
    score: float
    """The probability of `predicted`; of a number, how far it is off."""
    pieces: list[Piece]
    """One after the other they make up the text."""


@dataclass(frozen=True)
class Speed:
    """Of the model on the machine that evaluated it, on the reference engine; a server may have a faster one."""

    engine: str
    threads: int
    p50_ms: float
    """Half of the single texts were answered within it."""
    p95_ms: float


@dataclass(frozen=True)
class Sample:
    """A test row and the model's answer, for deploy to hold the served model's answer against."""

    text: str
    probabilities: dict[str, float]
    """None where the answer is a number."""
    value: float | None = None
    """The number."""
    tolerance: float = 0.02
    """How far a probability, or the number, may lie from it. Other processors and faster engines round otherwise;
    another model differs by far more."""


@dataclass(frozen=True)
class Scatter:
    """Some test rows of a regression, evenly along their labels."""

    labels: list[float]
    predicted: list[float]


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of one model on one test split; the gate and the report read nothing else."""

    figures: dict[str, Figure]
    """By the metric's name; the task's measure (`accuracy`) is always among them."""
    classes: list[ClassScores]
    confusion_matrix: list[list[int]]
    """Rows: the true class; columns: the predicted one; in the order of `classes`. Empty where a text has not exactly
    one class."""
    test_rows: int
    majority_share: float | None
    """The accuracy of always giving the most frequent answer; None where answers are numbers."""
    texts_per_second: float
    model_digest: str
    data_fingerprint: str
    samples: list[Sample]
    """A few test rows: a short one, a middling one, a long one."""
    slices: list[Slice] = field(default_factory=list)
    """The worst first."""
    small_slices: list[Slice] = field(default_factory=list)
    """Those with too few rows to judge by; the largest first."""
    baseline: dict[str, Figure] = field(default_factory=dict)
    """The same metrics of a simple model trained on the same rows; empty where none was."""
    baseline_name: str = ""
    """What it is, and on how many rows it was trained."""
    baseline_comparison: Comparison | None = None
    """With the baseline in the champion's place; None where there is none."""
    comparison: Comparison | None = None
    """With what is served now; None where nothing is."""
    calibration: Calibration | None = None
    curves: Curves | None = None
    """None where the test has one class only, or numbers."""
    scatter: Scatter | None = None
    """Of a regression."""
    mistakes: list[Mistake] = field(default_factory=list)
    """The most confident ones, the surest first; or the largest."""
    speed: Speed | None = None
    majority_comparison: Comparison | None = None
    """With always giving the most frequent answer of training (the median, of numbers) in the champion's place."""
    learnt_rows: int = 0
    """Rows of the split test that were not asked, for the model that the training began with had seen them."""
    groups: int | None = None
    """How many groups the rows are of, by which intervals and tests count; None where each row stands for itself."""
    task: Task = DEFAULT

    @property
    def accuracy(self) -> Figure:
        return self.figures["accuracy"]

    @property
    def headline(self) -> Figure:
        """The task's measure."""
        return self.figures[self.task.primary_metric]

    def confusion(self) -> Confusion:
        """The confusion matrix; of very many classes, those that are confused most, and the others as one."""
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
        """The figures that are one number each."""
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
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> EvaluationResult:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found: EvaluationResult = _revived(cls, stored)
        return found


def _revived(kind: Any, stored: Any) -> Any:
    """What JSON holds, as the dataclass, the task, the list, the dictionary or the optional value that `kind` says."""
    inner = get_args(kind)
    if kind is Task:
        return find_task(stored)
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{name: _revived(kinds[name], value) for name, value in stored.items()})  # type: ignore[operator]
    if get_origin(kind) is list:
        return [_revived(inner[0], one) for one in stored]
    if get_origin(kind) is dict:
        return {name: _revived(inner[1], one) for name, one in stored.items()}
    if inner and stored is not None:  # the one optional kind: X | None
        return _revived(inner[0], stored)
    return stored
