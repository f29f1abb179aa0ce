"""What came of a search's trials, and which of them wins. Only validation is looked at: the test is for the winner."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniml.errors import InputError, ModelFolderError
from miniml.metrics import more_is_better
from miniml.model import manifest
from miniml.search.failure import read_failure
from miniml.search.selection_uncertainty import SelectionUncertainty
from miniml.settings.search import Trial, describe_trial
from miniml.task_registry import all_tasks


def accuracies() -> list[str]:
    """Gives the primary metrics that tell how many rows are answered rightly, of all tasks."""
    return [task.primary_metric for task in all_tasks() if task.has_accuracy]


@dataclass(frozen=True)
class Outcome:
    """What came of one trial."""

    number: int
    """From 1, in the order in which they were planned."""
    trial: Trial
    folder: Path
    """The model's, or the one that says why there is none."""
    metrics: dict[str, float]
    """Of the training (see `miniml.training.fine_tune.TrainingResult`); empty where it came to nothing."""
    failure: str = ""
    """Why there is no model; empty where there is one."""
    steps: int = 0
    """That it was trained for; 0 where it came to nothing."""
    planned_steps: int = 0
    """More than its steps where it ended early."""

    @property
    def seconds(self) -> float:
        """Of the training; 0 where it came to nothing."""
        return self.metrics.get("train_seconds", 0.0)

    @property
    def stopped(self) -> str:
        """Where it ended before its last step: "step 15 of 60"; empty where it came to the end."""
        early = self.steps < self.planned_steps
        return f"step {self.steps:,} of {self.planned_steps:,}" if early else ""

    def on_validation(self, figure: str) -> float:
        """Its accuracy, loss and so on; nan where there is none."""
        return self.metrics.get(f"validation_{figure}", math.nan)

    @property
    def accuracy(self) -> float:
        """The share of validation's rows that it answers rightly; nan where the answers are numbers."""
        shares = map(self.on_validation, accuracies())
        return next(filter(math.isfinite, shares), math.nan)

    def can_win(self, pick_by: str) -> bool:
        """Whether there is a model, and a figure to pick it by."""
        return math.isfinite(self.on_validation(pick_by)) and math.isfinite(self.on_validation("loss"))


@dataclass(frozen=True)
class SearchResult:
    """All trials, and the one that won."""

    outcomes: list[Outcome]
    """By their numbers."""
    winner: Outcome
    picked_by: str
    """The figure on validation: accuracy, say, or loss."""
    digest: str
    """Of the winner's folder (see `miniml.model.manifest`)."""
    source: str
    """Of the dataset."""
    validation_rows: int
    uncertainty: SelectionUncertainty | None
    """How far chance may have picked; None where the trials have no accuracy."""

    def scalars(self) -> dict[str, float]:
        """The figures that are one number each."""
        return {
            "winner": self.winner.number,
            "trials": len(self.outcomes),
            "failed_trials": sum(bool(outcome.failure) for outcome in self.outcomes),
            "stopped_trials": sum(bool(outcome.stopped) for outcome in self.outcomes),
            "validation_rows": self.validation_rows,
            **{name: value for name, value in self.winner.metrics.items() if name.startswith("validation_")},
            **({"standard_error": self.uncertainty.standard_error} if self.uncertainty else {}),
        }

    def save(self, path: Path) -> None:
        """Writes the trials as JSON."""
        trials: list[dict[str, Any]] = [
            {
                "number": outcome.number,
                "arguments": outcome.trial,
                "metrics": outcome.metrics,
                "seconds": outcome.seconds,
                "failure": outcome.failure,
                "stopped": outcome.stopped,
                "steps": outcome.steps,
                "planned_steps": outcome.planned_steps,
                "won": outcome is self.winner,
            }
            for outcome in self.outcomes
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**self.scalars(), "picked_by": self.picked_by, "trials": trials}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def read_outcome(folder: Path, plan: Sequence[Trial]) -> Outcome:
    """What the training of one of the plan's trials left in `folder`.

    Raises:
        ModelFolderError: it is of no such trial, or was changed since it was signed.
    """
    failure = read_failure(folder)
    if failure:
        number, trial = _planned(folder, failure.training, plan)
        return Outcome(number, trial, folder, {}, failure=failure.reason)
    signed = manifest.read(folder)
    number, trial = _planned(folder, signed.arguments["training"], plan)
    used = signed.arguments.get("used", {})
    planned = used.get("planned_steps", 0)
    return Outcome(number, trial, folder, signed.metrics, "", used.get("ended_at_step", planned), planned)


def _planned(folder: Path, training: dict[str, Any], plan: Sequence[Trial]) -> tuple[int, Trial]:
    """Which trial the arguments are of: the models of a loop may come in any order."""
    for number, trial in enumerate(plan, 1):
        if all(training.get(name) == value for name, value in trial.items()):
            return number, trial
    raise ModelFolderError(
        f"{folder} was trained with arguments that are none of this search's {len(plan)} trials. "
        f"Pick among the models of one search."
    )


def choose(outcomes: Sequence[Outcome], pick_by: str) -> Outcome:
    """The best on validation by the figure `pick_by`; among equals the one of less loss, then the earlier one.

    Raises:
        InputError: no trial has left a model.
    """
    best = min(outcomes, key=lambda outcome: rank(outcome, pick_by))
    if not best.can_win(pick_by):
        raise InputError(
            f"no trial of {len(outcomes)} came to a model. Trial {best.number} ({describe_trial(best.trial)}): "
            f"{best.failure or f'its validation {pick_by} is no number'}"
        )
    return best


def rank(outcome: Outcome, pick_by: str) -> tuple[float, ...]:
    """Less is better; those without a model come last."""
    if not outcome.can_win(pick_by):
        return (math.inf, math.inf, outcome.number)
    loss = outcome.on_validation("loss")
    figure = outcome.on_validation(pick_by)
    return (-figure if more_is_better(pick_by) else figure, loss, outcome.number)
