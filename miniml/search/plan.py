"""Which trials a search makes: every combination of a grid, or some drawn from a space."""

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
"""Under which a trial's JSON object has its contest, beside the arguments to try."""
PINS = "pins"
"""And the pins of its sources."""
GIVEN = "given"
"""And the run's own arguments of the training, where they differ from their default."""
LOOKS = 4
"""Points of the validation curve, at least, of a trial that may be stopped: at each quarter of its steps."""


@dataclass(frozen=True)
class SearchContext:
    """What a trial is told of the search that it is part of."""

    space: str
    """A digest of what tells this search from others of the same training."""
    pick_by: str
    stop_early: bool
    minutes: float = 0.0
    """Of the whole search; 0 is no limit, and what follows is of no account then."""
    trials: int = 1
    at_once: int = 1
    """Trials that train beside each other."""
    run: str = ""
    """Tells searches of one space from each other whose time is shared out otherwise."""

    @property
    def even_share(self) -> float:
        """Minutes of each trial where all get as much, and those beside each other take it at once."""
        return self.minutes / math.ceil(self.trials / self.at_once)


def search_context(settings: SearchSettings, minutes: float, at_once: int, run: str) -> SearchContext | None:
    """What its trials are told; None where each trains as if it were alone.

    Without a time limit it is the same whatever the number of trials, so that more of them find the first ones'
    results.
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


def written(
    trial: Trial, contest: SearchContext | None, pins: str = "", given: Mapping[str, Any] | None = None
) -> str:
    """The trial as `train` is given it: a JSON object, with what else it has to know.

    Args:
        trial: The values to try.
        contest: What it is told of the search; None where it trains as if it were alone.
        pins: What its sources are (see `miniml.sources.pins`).
        given: What the run says of all trainings, where it differs from their default.
    """
    more = {SEARCH: asdict(contest) if contest else None, PINS: pins, GIVEN: given}
    return json.dumps(trial | {name: value for name, value in more.items() if value})


def read(trial: str) -> tuple[Trial, SearchContext | None]:
    """What `written` wrote; "" is a training that is no trial."""
    values: Trial = json.loads(trial) if trial else {}
    contest = values.pop(SEARCH, None)
    for name in (PINS, GIVEN):
        values.pop(name, None)
    return values, SearchContext(**contest) if contest else None


def pins_of(trial: str) -> str:
    """The pins that `written` was given; "" where there are none."""
    return str(json.loads(trial).get(PINS, "")) if trial else ""


def given_of(trial: str) -> dict[str, Any]:
    """The run's arguments that `written` was given; {} where there are none."""
    return dict(json.loads(trial).get(GIVEN, {})) if trial else {}


def with_trial(settings: TrainingSettings, trial: str) -> TrainingSettings:
    """The settings with the values of `trial`, a JSON object, in place of their own; "" replaces none.

    A trial that may be stopped looks at validation at each quarter of its steps, unless it says itself how often.

    Raises:
        InputError: the training takes no such argument or value.
    """
    values, contest = read(trial)
    changed: Trial = {name: value_of(name, value) for name, value in values.items()}
    if contest and contest.stop_early:
        changed.setdefault("evaluations", max(LOOKS, settings.evaluations))
    return replace(settings, **changed)


def on_its_own(settings: TrainingSettings, trial: str) -> TrainingSettings:
    """As `with_trial`, for a training that does not see the other trials: it is not stopped, and gets an even share of
    the search's time."""
    _, contest = read(trial)
    alone = with_trial(settings, trial)
    return replace(alone, time_limit=contest.even_share) if contest else alone
