"""Holds what was measured of the smaller models on the validation rows, and which one was chosen.

The code that computes it is in `miniml.compression.selection`; reading it needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from miniml.evaluation.result import Estimate, NonInferiority, from_json
from miniml.evaluation.smaller_model import SmallerModel
from miniml.metrics import more_is_better

MIN_RATIO = 1.2
"""A model that is hardly faster is not worth a doubt: less than this times the full model's speed."""


@dataclass(frozen=True)
class MeasuredModel:
    """One model on the validation rows."""

    name: str
    description: str
    """What is smaller about it, in words."""
    digest: str
    layers: int
    """The number of its encoder layers; 0 where its config has no such number."""
    max_length: int
    """The most tokens of a text that it reads."""
    figure: Estimate
    """The task's primary metric."""
    engine: str
    """The engine that it was timed on, the fastest one for it."""
    texts_per_second: float
    ratio: float
    """How many times as fast as the full model it is."""
    test: NonInferiority | None = None
    """The comparison with the full model; None for the full model itself."""
    seconds: float = 0.0
    """How long it took to make, with the model that it was made of; 0 for the full model."""

    @property
    def may_replace(self) -> bool:
        """Whether it is shown to be not inferior, and fast enough to be worth it."""
        return self.test is not None and self.test.passed and self.ratio >= MIN_RATIO

    @property
    def verdict(self) -> str:
        """Why it may replace the full model or not, in words."""
        if self.test is None:
            return "the full model"
        if self.ratio < MIN_RATIO:
            return f"not worth it: {self.ratio:.2g} × as fast, less than {MIN_RATIO:g}"
        if self.test.passed:
            return "not inferior"
        if not self.test.rows_needed:
            return f"inferior, as measured: it loses {margin_in_words(self.test)} or more"
        return f"not shown: {self.test.rows:,} rows are too few to tell, it would take about {self.test.rows_needed:,}"


@dataclass(frozen=True)
class Selection:
    """The smaller models of one full model, and which one was chosen on the validation rows."""

    metric: str
    """The name of the task's primary metric."""
    validation_rows: int
    test_rows: int
    """The number of rows of the test, which nothing here has read."""
    full: MeasuredModel | None
    """The full model; None where nothing was compared with it."""
    candidates: list[MeasuredModel]
    asked: bool = True
    """Whether smaller models were asked for."""
    not_made: list[str] = field(default_factory=list)
    """The reason for each kind of smaller model of which none could be made."""

    @property
    def chosen(self) -> MeasuredModel | None:
        """The fastest candidate that may replace the full model; None where none may."""
        return max(
            (each for each in self.candidates if each.may_replace), key=lambda each: each.ratio, default=None
        )

    @property
    def reason(self) -> str:
        """Why this candidate was chosen, or none, in one sentence."""
        if not self.asked:
            return "compression is none, so no smaller model was made"
        if not self.candidates:
            why = f": {'; '.join(self.not_made)}" if self.not_made else ""
            return f"no smaller model could be made of this one{why}"
        rows = f"{self.validation_rows:,} validation rows"
        if (best := self.chosen) and best.test:
            return (
                f"{best.name} ({best.description}) is {best.ratio:.2g} × as fast, and shown on {rows} to lose less "
                f"than {margin_in_words(best.test)} (p = {best.test.p_value:.2g})"
            )
        fast = [each for each in self.candidates if each.ratio >= MIN_RATIO]
        if not fast:
            return f"no smaller model is {MIN_RATIO:g} × as fast as the full one"
        needed = [each.test.rows_needed for each in fast if each.test and each.test.rows_needed]
        if not needed:
            return f"every faster model loses max_loss or more on {rows}, as measured"
        return (
            f"{rows} are too few to show of any faster model that it loses less than max_loss: it would take about "
            f"{min(needed):,}, or a larger max_loss"
        )

    def with_seconds(self, seconds: Mapping[str, float]) -> Selection:
        """Returns the same selection, with the time that each candidate took.

        Args:
            seconds: The time in seconds, by the candidate's name.
        """
        return replace(
            self, candidates=[replace(each, seconds=seconds[each.name]) for each in self.candidates]
        )

    def scalars(self) -> dict[str, float]:
        """Returns the results that are single numbers, by the names that KFP's Metrics artifact has."""
        found = {"candidates": float(len(self.candidates)), "validation_rows": float(self.validation_rows)}
        if (best := self.chosen) and best.test:
            found |= {
                "speed_ratio": best.ratio,
                "validation_gain": best.test.comparison.gain.value,
                "p_value": best.test.p_value,
            }
        return found

    def of_chosen(self) -> dict[str, Any]:
        """Returns what evaluate has to know of the chosen model, for the metadata of its artifact."""
        best = self.chosen
        return {"digest": best.digest, "speed_ratio": best.ratio} if best else {}

    def smaller_model(self, folder: Path | str) -> SmallerModel | None:
        """Returns the chosen model, for the evaluation beside the full one; None where no model was chosen.

        Args:
            folder: The folder that `miniml.compression.compress.compress` wrote.
        """
        best = self.chosen
        return SmallerModel(Path(folder), best.test.max_loss, best.ratio) if best and best.test else None

    def save(self, path: Path) -> None:
        """Writes the selection as JSON, with its verdicts in words; the folder is made."""
        stored: dict[str, Any] = asdict(self)
        for one, each in zip(stored["candidates"], self.candidates, strict=True):
            one["verdict"] = each.verdict
        stored |= {"chosen": self.chosen.name if self.chosen else None, "reason": self.reason}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Selection:
        """Reads what `save` wrote."""
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for one in stored["candidates"]:
            del one["verdict"]
        found: Selection = from_json(
            cls, {name: value for name, value in stored.items() if name not in ("chosen", "reason")}
        )
        return found


NOTHING_ASKED = Selection("", 0, 0, None, [], asked=False)
"""The selection of a run without a compression."""


def margin_in_words(test: NonInferiority) -> str:
    """Returns the margin of a test: "0.5 points", or of errors "0.5 % of the full model's error"."""
    size = f"{100 * test.max_loss:g}"
    if more_is_better(test.comparison.measure):
        return f"{size} points"
    return f"{size} % of the full model's error"
