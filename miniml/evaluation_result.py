"""The figures of one model on one test split, as every later stage reads them.

They stand apart from the code that computes them, so that the gate and deploy need no torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


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
class Sample:
    """A test row and the model's answer, for deploy to hold the served model's answer against."""

    text: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of one model on one test split; the gate and the report read nothing else."""

    accuracy: float
    accuracy_interval: tuple[float, float]
    """95 %, Wilson's: with so many test rows, the true accuracy lies here 19 times out of 20."""
    balanced_accuracy: float
    macro_f1: float
    weighted_f1: float
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

    def scalars(self) -> dict[str, float]:
        """The figures that are one number each."""
        return {
            "accuracy": self.accuracy,
            "accuracy_low": self.accuracy_interval[0],
            "accuracy_high": self.accuracy_interval[1],
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "weighted_f1": self.weighted_f1,
            "majority_share": self.majority_share,
            "test_rows": self.test_rows,
            "texts_per_second": self.texts_per_second,
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> EvaluationResult:
        stored = json.loads(path.read_text(encoding="utf-8"))
        low, high = stored.pop("accuracy_interval")
        classes = [ClassScores(**scores) for scores in stored.pop("classes")]
        samples = [Sample(**sample) for sample in stored.pop("samples")]
        return cls(accuracy_interval=(low, high), classes=classes, samples=samples, **stored)
