"""Settings of a hyperparameter search: what it tries, and how the best model is picked."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from miniml.errors import InputError
from miniml.settings.checks import require_at_least, require_choices
from miniml.settings.choices import ValidationMetric
from miniml.settings.field_types import FormField
from miniml.settings.space import Choices, Space, parse
from miniml.settings.training import TrainingSettings

MAX_TRIALS = 64
"""The most trials of a search. KFP passes all trials' models to the pick stage in one command line argument, with about
1 KB of metadata each, and Linux allows 128 KiB for an argument."""


DRAWS_PER_TRIAL = 100
"""The most draws for each wanted trial: a space may hold fewer different trials than are wanted."""


Trial = dict[str, Any]
"""Training arguments by name, with the values that replace those of the run."""


@dataclass(frozen=True)
class SearchSettings:
    """What a search tries, and how the best model is picked."""

    space: FormField[str] = '{"learning_rate": {"low": 1e-5, "high": 1e-4, "log": true}, "dropout": [0, 0.1]}'
    """The search space as JSON: training arguments, each with a list of values or a range (see
    `miniml.settings.space`)."""
    sampling: Literal["random", "grid"] = "random"
    """How trials are chosen: "random" draws from lists and ranges; "grid" tries every combination of lists."""
    trials: FormField[int] = 8
    """The number of trials to draw; a grid has one for each combination instead."""
    pick_by: ValidationMetric = "accuracy"
    """The validation metric that picks the best model: accuracy (or the task's own metric), macro_f1, loss or
    a registered one."""
    stop_early: bool = True
    """Ends a trial that is not among the better half of the trials so far, at a quarter and at half of its steps. The
    model of such a trial is kept like any other."""
    seed: FormField[int] = 42
    """The random seed: the same seed draws the same trials."""

    def __post_init__(self) -> None:
        require_choices(self)
        require_at_least("trials", self.trials, 1)
        if self.trials > MAX_TRIALS:
            raise InputError(f"trials is {self.trials}; at most {MAX_TRIALS} are made in one search.")
        space = parse(self.space)
        if "time_limit" in space:
            raise InputError(
                "space names 'time_limit', which is of the whole search: its trials share it. Give it as an argument."
            )
        if self.sampling == "grid":
            _require_grid(space)

    def plan(self, base: TrainingSettings | None = None) -> list[Trial]:
        """Returns the trials, all different, in the order in which they run. The same settings give the same trials.

        Args:
            base: The settings that a trial takes where it has no values of its own; by default the training's defaults.

        Raises:
            InputError: The training refuses a trial; the message names it.
        """
        space = parse(self.space)
        trials = _grid(space) if self.sampling == "grid" else _drawn(space, self.trials, self.seed)
        for number, trial in enumerate(trials, 1):
            try:
                replace(base or TrainingSettings(), **trial)
            except InputError as error:
                raise InputError(
                    f"space: trial {number} ({describe_trial(trial)}) cannot be trained: {error}"
                ) from error
        return trials


def describe_trial(trial: Trial) -> str:
    """Writes the trial as a person reads it: learning_rate 3e-05, batch_size 16."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.items()
    )


def _grid(space: Space) -> list[Trial]:
    lists = [choices.values for choices in space.values() if isinstance(choices, Choices)]
    return _different(dict(zip(space, values, strict=True)) for values in itertools.product(*lists))


def _require_grid(space: Space) -> None:
    for name, choices in space.items():
        if not isinstance(choices, Choices):
            raise InputError(
                f"space gives {name} a range, of which a grid cannot try every value. Give a list, or set sampling "
                f"to random."
            )
    combinations = math.prod(
        len(set(choices.values)) for choices in space.values() if isinstance(choices, Choices)
    )
    if combinations > MAX_TRIALS:
        raise InputError(
            f"space has {combinations:,} combinations; at most {MAX_TRIALS} trials are made in one search. Give "
            f"fewer values, or set sampling to random."
        )


def _drawn(space: Space, wanted: int, seed: int) -> list[Trial]:
    """Returns as many different trials as are wanted, or as many as were found."""
    random = Random(seed)  # noqa: S311  # no secret
    draws = (
        {name: choices.draw(random) for name, choices in space.items()}
        for _ in range(DRAWS_PER_TRIAL * wanted)
    )
    return _different(draws, wanted)


def _different(trials: Iterable[Trial], most: int = MAX_TRIALS) -> list[Trial]:
    """Returns the first `most` trials, without repetitions."""
    found: dict[str, Trial] = {}
    for trial in trials:
        found.setdefault(json.dumps(trial), trial)
        if len(found) == most:
            break
    return list(found.values())
