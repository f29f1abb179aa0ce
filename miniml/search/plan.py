"""Which trials a search makes: every combination of a grid, or some drawn from a space."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from miniml.errors import InputError
from miniml.manifest import digest_of
from miniml.search.space import Choices, Space, parse, value_of
from miniml.settings import BEST_BY, LAST, TrainingSettings, require_at_least, require_one_of

SAMPLINGS = ("random", "grid")
CRITERIA = tuple(figure for figure in BEST_BY if figure != LAST)
"""The figures on validation by which a training keeps its weights are also those by which a search keeps its model."""

MOST_TRIALS = 64
"""KFP hands all trials' models to the pick stage in one word of its command line, with about 1 KB of metadata each,
and Linux takes 128 KiB in a word."""

DRAWS_PER_TRIAL = 100
"""Where a space holds fewer different trials than are wanted, drawing on until there are enough would never end."""

Trial = dict[str, Any]
"""Training arguments, and the values that stand in for the run's own."""


SEARCH = "search"
"""Under which a trial's JSON object has its contest, beside the arguments to try."""
PINS = "pins"
"""And the pins of its sources."""
GIVEN = "given"
"""And the run's own arguments of the training, where they differ from their default."""
LOOKS = 4
"""Points of the validation curve, at least, of a trial that may be stopped: at each quarter of its steps."""


@dataclass(frozen=True)
class Contest:
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


@dataclass(frozen=True)
class SearchSettings:
    """What to try, and how the winner is picked."""

    space: str = '{"learning_rate": {"low": 1e-5, "high": 1e-4, "log": true}, "dropout": [0, 0.1]}'
    """JSON: arguments of the training, each with a list of values or a range (see `miniml.search.space`)."""
    sampling: str = "random"
    """"random" draws from lists and ranges; "grid" tries every combination of lists."""
    trials: int = 8
    """How many to draw; a grid has as many as it has combinations."""
    pick_by: str = "accuracy"
    """The figure on validation that the winner is best by: accuracy (or what the task has for it), macro_f1 or loss."""
    stop_early: bool = True
    """Ends a trial that is not among the better half of those so far, at a quarter and at half of its steps. The model
    of a trial that was ended is kept as any other."""
    seed: int = 42
    """The same seed draws the same trials."""

    def __post_init__(self) -> None:
        require_one_of("sampling", self.sampling, SAMPLINGS)
        require_one_of("pick_by", self.pick_by, CRITERIA)
        require_at_least("trials", self.trials, 1)
        if self.trials > MOST_TRIALS:
            raise InputError(f"trials is {self.trials}; at most {MOST_TRIALS} are made in one search.")
        space = parse(self.space)
        if "time_limit" in space:
            raise InputError(
                "space names 'time_limit', which is of the whole search: its trials share it. Give it as an argument."
            )
        if self.sampling == "grid":
            _require_grid(space)

    def plan(self, base: TrainingSettings | None = None) -> list[Trial]:
        """The trials, each another one, in the order in which they are made. The same settings give the same ones.

        Args:
            base: What each trial takes where it names nothing else; by default the training's own defaults.

        Raises:
            InputError: the training refuses one of them; the message names it.
        """
        space = parse(self.space)
        trials = _grid(space) if self.sampling == "grid" else _drawn(space, self.trials, self.seed)
        for number, trial in enumerate(trials, 1):
            try:
                replace(base or TrainingSettings(), **trial)
            except InputError as error:
                raise InputError(
                    f"space: trial {number} ({told(trial)}) cannot be trained: {error}"
                ) from error
        return trials

    def contest(self, minutes: float, at_once: int, run: str) -> Contest | None:
        """What its trials are told; None where each trains as if it were alone.

        Without a time limit it is the same whatever the number of trials, so that more of them find the first ones'
        results.
        """
        if not (self.stop_early or minutes):
            return None
        space = digest_of({"space": self.space, "sampling": self.sampling, "seed": self.seed})[:16]
        if not minutes:
            return Contest(space, self.pick_by, self.stop_early)
        trials = len(self.plan())
        return Contest(space, self.pick_by, self.stop_early, minutes, trials, min(at_once, trials), run)


def written(
    trial: Trial, contest: Contest | None, pins: str = "", given: Mapping[str, Any] | None = None
) -> str:
    """The trial as `train` is given it: a JSON object, with what else it has to know.

    Args:
        trial: The values to try.
        contest: What it is told of the search; None where it trains as if it were alone.
        pins: What its sources are (see `miniml.pins`).
        given: What the run says of all trainings, where it differs from their default.
    """
    more = {SEARCH: asdict(contest) if contest else None, PINS: pins, GIVEN: given}
    return json.dumps(trial | {name: value for name, value in more.items() if value})


def read(trial: str) -> tuple[Trial, Contest | None]:
    """What `written` wrote; "" is a training that is no trial."""
    values: Trial = json.loads(trial) if trial else {}
    contest = values.pop(SEARCH, None)
    for name in (PINS, GIVEN):
        values.pop(name, None)
    return values, Contest(**contest) if contest else None


def pins_of(trial: str) -> str:
    """The pins that `written` was given; "" where there are none."""
    return str(json.loads(trial).get(PINS, "")) if trial else ""


def given_of(trial: str) -> dict[str, Any]:
    """The run's arguments that `written` was given; {} where there are none."""
    return dict(json.loads(trial).get(GIVEN, {})) if trial else {}


def told(trial: Trial) -> str:
    """The trial as a person reads it: learning_rate 3e-05, batch_size 16."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.items()
    )


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
    if combinations > MOST_TRIALS:
        raise InputError(
            f"space has {combinations:,} combinations; at most {MOST_TRIALS} trials are made in one search. Give "
            f"fewer values, or set sampling to random."
        )


def _drawn(space: Space, wanted: int, seed: int) -> list[Trial]:
    """As many different ones as are wanted, or as there are."""
    random = Random(seed)  # noqa: S311  # no secret
    draws = (
        {name: choices.draw(random) for name, choices in space.items()}
        for _ in range(DRAWS_PER_TRIAL * wanted)
    )
    return _different(draws, wanted)


def _different(trials: Iterable[Trial], most: int = MOST_TRIALS) -> list[Trial]:
    """The first `most` that differ."""
    found: dict[str, Trial] = {}
    for trial in trials:
        found.setdefault(json.dumps(trial), trial)
        if len(found) == most:
            break
    return list(found.values())
