"""Encodes a trial and the context of its search as a JSON object, the argument `trial` of the train stage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from miniml.files.digests import digest_of
from miniml.settings.search import SearchSettings, Trial
from miniml.settings.space import value_of
from miniml.settings.training import TrainingSettings

SEARCH = "search"
"""The key of the search's context in a trial's JSON object, beside the arguments to try."""
PINS = "pins"
"""The key of the pins of its sources."""
RUN_ARGUMENTS = "given"
"""The key of the run's own arguments of the training that differ from their defaults."""
MIN_EVALUATIONS = 4
"""The fewest evaluations of a trial that may be stopped early: one at each quarter of its steps."""


@dataclass(frozen=True)
class SearchContext:
    """The context of a search that its trials need."""

    space: str
    """A digest that distinguishes this search from others of the same training."""
    pick_by: str
    """The validation metric that picks the winner."""
    stop_early: bool
    """Whether trials that are not promising end early."""
    minutes: float = 0.0
    """The time limit of the whole search; 0 sets none, and then the fields below have no effect."""
    trials: int = 1
    """The number of trials of the search."""
    at_once: int = 1
    """The number of trials that train at the same time."""
    run: str = ""
    """The run's identifier, which distinguishes searches of one space that divide their time differently."""

    @property
    def even_share(self) -> float:
        """The minutes of each trial if all get the same time, and `at_once` of them train at the same time."""
        return self.minutes / math.ceil(self.trials / self.at_once)


def search_context(settings: SearchSettings, minutes: float, at_once: int, run: str) -> SearchContext | None:
    """Returns the context for the trials of a search, or None if each of them trains independently.

    Without a time limit it does not depend on the number of trials, so that a longer search finds the results of a
    shorter one.

    Args:
        settings: The settings of the search.
        minutes: The time limit of the whole search; 0 sets none.
        at_once: The number of trials that train at the same time, at most.
        run: Identifies the run.
    """
    if not (settings.stop_early or minutes):
        return None
    space = digest_of({"space": settings.space, "sampling": settings.sampling, "seed": settings.seed})[:16]
    if not minutes:
        return SearchContext(space, settings.pick_by, settings.stop_early)
    trials = len(settings.plan())
    return SearchContext(
        space, settings.pick_by, settings.stop_early, minutes, trials, min(at_once, trials), run
    )


def encode_trial(
    trial: Trial,
    context: SearchContext | None,
    pins: str = "",
    run_arguments: Mapping[str, Any] | None = None,
) -> str:
    """Returns a trial as a JSON object, the argument `trial` of the train stage.

    Args:
        trial: The values to try.
        context: The context of the search; None if the trial trains independently.
        pins: The pins of its sources (see `miniml.sources.pins`).
        run_arguments: The run's own arguments of the training that differ from their defaults.
    """
    more = {SEARCH: asdict(context) if context else None, PINS: pins, RUN_ARGUMENTS: run_arguments}
    return json.dumps(trial | {name: value for name, value in more.items() if value})


def decode_trial(trial: str) -> tuple[Trial, SearchContext | None]:
    """Parses a trial's JSON object; "" stands for a training outside a search.

    Returns:
        The values to try, and the context of the search; None if the trial trains independently.
    """
    values: Trial = json.loads(trial) if trial else {}
    context = values.pop(SEARCH, None)
    for name in (PINS, RUN_ARGUMENTS):
        values.pop(name, None)
    return values, SearchContext(**context) if context else None


def pins_of(trial: str) -> str:
    """Returns the pins in a trial's JSON object, or ""."""
    return str(json.loads(trial).get(PINS, "")) if trial else ""


def run_arguments_of(trial: str) -> dict[str, Any]:
    """Returns the run's arguments in a trial's JSON object, or {}."""
    return dict(json.loads(trial).get(RUN_ARGUMENTS, {})) if trial else {}


def with_trial(settings: TrainingSettings, trial: str) -> TrainingSettings:
    """Returns the settings with the values of a trial in place of their own.

    A trial that may be stopped early evaluates at least at each quarter of its steps, unless it sets the number itself.

    Args:
        settings: The settings of the training.
        trial: The trial's JSON object; "" replaces nothing.

    Raises:
        InputError: the training has no such argument, or the value is not valid.
    """
    values, context = decode_trial(trial)
    changed: Trial = {name: value_of(name, value) for name, value in values.items()}
    if context and context.stop_early:
        changed.setdefault("evaluations", max(MIN_EVALUATIONS, settings.evaluations))
    return replace(settings, **changed)


def on_its_own(settings: TrainingSettings, trial: str) -> TrainingSettings:
    """Returns the settings as `with_trial` does, for a trial that cannot see the others.

    It is not stopped early, and gets an even share of the search's time.

    Raises:
        InputError: the training has no such argument, or the value is not valid.
    """
    _, context = decode_trial(trial)
    alone = with_trial(settings, trial)
    return replace(alone, time_limit=context.even_share) if context else alone
