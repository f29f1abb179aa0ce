"""Reads the results of a search's trials, and chooses the winner by validation alone: the test is for the winner."""

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
    """Returns the primary metrics, of all tasks, that are a fraction of rows predicted correctly."""
    return [task.primary_metric for task in all_tasks() if task.has_accuracy]


@dataclass(frozen=True)
class TrialResult:
    """The result of one trial."""

    number: int
    """The trial's number in the plan, from 1."""
    trial: Trial
    folder: Path
    """The folder of the model, or the one that says why there is none."""
    metrics: dict[str, float]
    """The training's metrics (see `miniml.training.fine_tune.TrainingResult`); empty where it failed."""
    failure: str = ""
    """The reason why there is no model; empty where there is one."""
    steps: int = 0
    """The steps that were trained; 0 where the training failed."""
    planned_steps: int = 0
    """The steps that were planned: more than `steps` where the training ended early."""

    @property
    def seconds(self) -> float:
        """The duration of the training; 0 where it failed."""
        return self.metrics.get("train_seconds", 0.0)

    @property
    def stopped(self) -> str:
        """The step at which the training ended early, as "step 15 of 60"; empty if it ran to its end."""
        early = self.steps < self.planned_steps
        return f"step {self.steps:,} of {self.planned_steps:,}" if early else ""

    def on_validation(self, metric: str) -> float:
        """Returns a validation metric, such as "accuracy" or "loss"; nan where there is none."""
        return self.metrics.get(f"validation_{metric}", math.nan)

    @property
    def accuracy(self) -> float:
        """The fraction of validation rows predicted correctly; nan where the labels are numbers."""
        fractions = map(self.on_validation, accuracies())
        return next(filter(math.isfinite, fractions), math.nan)

    def can_win(self, pick_by: str) -> bool:
        """Returns whether there is a model, with the metric to pick it by."""
        return math.isfinite(self.on_validation(pick_by)) and math.isfinite(self.on_validation("loss"))


@dataclass(frozen=True)
class SearchResult:
    """The result of a search: all trials, and the winner."""

    trial_results: list[TrialResult]
    """The trials in the order of their numbers."""
    winner: TrialResult
    picked_by: str
    """The validation metric that picked the winner, such as "accuracy" or "loss"."""
    digest: str
    """The digest of the winner's folder (see `miniml.model.manifest`)."""
    source: str
    """The address of the dataset."""
    validation_rows: int
    uncertainty: SelectionUncertainty | None
    """The uncertainty of the choice; None if the trials have no accuracy."""

    def scalars(self) -> dict[str, float]:
        """Returns the metrics of the search and of the winner, by name."""
        return {
            "winner": self.winner.number,
            "trials": len(self.trial_results),
            "failed_trials": sum(bool(result.failure) for result in self.trial_results),
            "stopped_trials": sum(bool(result.stopped) for result in self.trial_results),
            "validation_rows": self.validation_rows,
            **{name: value for name, value in self.winner.metrics.items() if name.startswith("validation_")},
            **({"standard_error": self.uncertainty.standard_error} if self.uncertainty else {}),
        }

    def save(self, path: Path) -> None:
        """Writes the trials as JSON."""
        trials: list[dict[str, Any]] = [
            {
                "number": result.number,
                "arguments": result.trial,
                "metrics": result.metrics,
                "seconds": result.seconds,
                "failure": result.failure,
                "stopped": result.stopped,
                "steps": result.steps,
                "planned_steps": result.planned_steps,
                "won": result is self.winner,
            }
            for result in self.trial_results
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**self.scalars(), "picked_by": self.picked_by, "trials": trials}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def read_trial_result(folder: Path, plan: Sequence[Trial]) -> TrialResult:
    """Reads the result of a trial.

    Args:
        folder: The folder that the trial's training has written.
        plan: The trials of the search.

    Raises:
        ModelFolderError: the folder is of no trial of the plan, or was changed since it was signed.
    """
    failure = read_failure(folder)
    if failure:
        number, trial = _planned(folder, failure.training, plan)
        return TrialResult(number, trial, folder, {}, failure=failure.reason)
    signed = manifest.read(folder)
    number, trial = _planned(folder, signed.arguments["training"], plan)
    used = signed.arguments.get("used", {})
    planned = used.get("planned_steps", 0)
    return TrialResult(number, trial, folder, signed.metrics, "", used.get("ended_at_step", planned), planned)


def _planned(folder: Path, training: dict[str, Any], plan: Sequence[Trial]) -> tuple[int, Trial]:
    """Returns the trial with these arguments, and its number: the models of a loop may come in any order."""
    for number, trial in enumerate(plan, 1):
        if all(training.get(name) == value for name, value in trial.items()):
            return number, trial
    raise ModelFolderError(
        f"{folder} was trained with arguments that are none of this search's {len(plan)} trials. "
        f"Pick among the models of one search."
    )


def choose(results: Sequence[TrialResult], pick_by: str) -> TrialResult:
    """Returns the best trial by the validation metric `pick_by`; a tie goes to the lower loss, then to the earlier one.

    Raises:
        InputError: no trial has a model.
    """
    best = min(results, key=lambda result: rank(result, pick_by))
    if not best.can_win(pick_by):
        raise InputError(
            f"no trial of {len(results)} came to a model. Trial {best.number} ({describe_trial(best.trial)}): "
            f"{best.failure or f'its validation {pick_by} is no number'}"
        )
    return best


def rank(result: TrialResult, pick_by: str) -> tuple[float, ...]:
    """Returns a sort key: the best trial comes first, those without a model come last."""
    if not result.can_win(pick_by):
        return (math.inf, math.inf, result.number)
    loss = result.on_validation("loss")
    value = result.on_validation(pick_by)
    return (-value if more_is_better(pick_by) else value, loss, result.number)
