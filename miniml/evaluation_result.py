"""The figures of one model on one test split, as every later stage reads them.

They stand apart from the code that computes them, so that the gate and deploy need no torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


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
    """A part of the test, and the accuracy on it."""

    column: str
    """What it was cut by: length, label, or a column of the source."""
    value: str
    rows: int
    accuracy: Figure


@dataclass(frozen=True)
class Comparison:
    """The model (the challenger) and the one that is served now (the champion), on the same test rows."""

    champion_digest: str
    champion_accuracy: float
    only_challenger: int
    """Rows that the challenger answers rightly and the champion does not."""
    only_champion: int
    gain: Figure
    """The challenger's accuracy less the champion's, paired by row."""
    p_value: float
    """Exact and one-sided (McNemar): how often a challenger that is not better would look at least so good."""


@dataclass(frozen=True)
class Sample:
    """A test row and the model's answer, for deploy to hold the served model's answer against."""

    text: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of one model on one test split; the gate and the report read nothing else."""

    figures: dict[str, Figure]
    """By the metric's name; `accuracy` is always among them."""
    classes: list[ClassScores]
    confusion_matrix: list[list[int]]
    """Rows: the true class; columns: the predicted one; in the order of `classes`."""
    test_rows: int
    majority_share: float
    """The accuracy of always answering the most frequent class."""
    texts_per_second: float
    model_digest: str
    data_fingerprint: str
    samples: list[Sample]
    """A few test rows: a short one, a middling one, a long one."""
    slices: list[Slice] = field(default_factory=list)
    """The worst first."""
    baseline: dict[str, Figure] = field(default_factory=dict)
    """The same metrics of a simple model trained on the same rows; empty where none was."""
    comparison: Comparison | None = None
    """With what is served now; None where nothing is."""

    @property
    def accuracy(self) -> Figure:
        return self.figures["accuracy"]

    def scalars(self) -> dict[str, float]:
        """The figures that are one number each."""
        return {
            **{name: figure.value for name, figure in self.figures.items()},
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
            "majority_share": self.majority_share,
            "test_rows": self.test_rows,
            "texts_per_second": self.texts_per_second,
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> EvaluationResult:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        comparison = stored.pop("comparison")
        return cls(
            figures=_figures(stored.pop("figures")),
            baseline=_figures(stored.pop("baseline")),
            classes=[ClassScores(**scores) for scores in stored.pop("classes")],
            slices=[
                Slice(**{**part, "accuracy": Figure(**part["accuracy"])}) for part in stored.pop("slices")
            ],
            samples=[Sample(**sample) for sample in stored.pop("samples")],
            comparison=comparison and Comparison(**{**comparison, "gain": Figure(**comparison["gain"])}),
            **stored,
        )


def _figures(stored: dict[str, dict[str, float]]) -> dict[str, Figure]:
    return {name: Figure(**figure) for name, figure in stored.items()}
