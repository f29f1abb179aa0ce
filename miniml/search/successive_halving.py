"""A trial among the others of its search: how many minutes it gets, and whether it is worth going on with.

Successive halving, as each trial comes along (ASHA, Li et al. 2020, the kind that stops): at a quarter and at half of
its steps a trial has to be among the better half of all that have come so far, or it ends. Nobody waits for anybody,
so it goes with trials one after another as with trials beside each other; the first one of them always passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from miniml.metrics import more_is_better
from miniml.progress import duration, logger
from miniml.search.plan import SearchContext
from miniml.search.scoreboard import Entry, Scoreboard

RUNGS = (0.25, 0.5)
"""Shares of a trial's steps after which it has to be among the better half."""
HALVED = 2
MIN_FRACTION = 0.001
"""Seconds: a limit of none would be none, where no time is left a training has to say so."""
EXPECTED_SHARE = 0.65
"""Of a whole training that a trial takes on average. On made-up curves, 4 trials took 0.70, 8 took 0.63 and 16 took
0.59 (docs/decisions/0021)."""


def is_promising(mine: float, others: Sequence[float], *, more: bool) -> bool:
    """Whether a figure is among the better half of all. Of equal ones none is worse; `more` says what is better."""
    better = sum(other > mine if more else other < mine for other in others)
    return better < (len(others) + 1) / HALVED


def share_of_time(contest: SearchContext, others: Sequence[Entry]) -> float:
    """Seconds of the search's that a trial may take, where the `others` have taken theirs, or have been given them.

    One after another, a trial gets the time that is left over the trainings that are left to be made of it, of which
    most will not be whole ones. What one leaves goes to the later ones; together they take no more than there is.
    Beside each other, all get the same.
    """
    if contest.at_once > 1:
        return 60 * contest.even_share
    left: float = 60 * contest.minutes - sum(other.get("seconds", 0.0) for other in others)
    after_it = max(0, contest.trials - len(others) - 1)
    return max(0.0, left) / (1 + after_it * (EXPECTED_SHARE if contest.stop_early else 1.0))


class SuccessiveHalvingCallback(TrainerCallback):
    """Takes a trial's figures to the scoreboard, and ends the trial where they are not promising."""

    def __init__(self, name: str, contest: SearchContext, figure: str, board: Scoreboard | None) -> None:
        """`figure` is that of validation by which the winner will be picked."""
        self._name, self._contest, self._figure, self._board = name, contest, figure, board
        there = board.entries() if board else None
        self._entry: Entry = (there or {}).get(name, {})
        self._rung = 0.0

    def minutes(self) -> float:
        """Those of the search's that this trial may take; the same again where it has begun before. 0 is no limit."""
        if not self._contest.minutes:
            return 0.0
        if "share" not in self._entry:
            others = self._others()
            alone = 60 * self._contest.even_share
            self._entry["share"] = alone if others is None else share_of_time(self._contest, others)
            self.took(self._entry["share"])
        logger.info(
            f"of the search's {round(self._contest.minutes, 2):g} min this trial gets {duration(self._entry['share'])}"
        )
        return max(float(self._entry["share"]), MIN_FRACTION) / 60

    def took(self, seconds: float) -> None:
        """Tells the others how much of the search's time is gone, or spoken for."""
        self._entry["seconds"] = seconds
        self._tell()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._rung = _rung(state)  # Where it goes on from a checkpoint, it has been there.

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        before, self._rung = self._rung, _rung(state)
        if self._contest.stop_early and before < self._rung and state.global_step < state.max_steps:
            # Of numbers there is no F1, and the winner is picked by the loss.
            figure = self._figure if f"eval_{self._figure}" in (metrics or {}) else "loss"
            if self._is_hopeless(figure, (metrics or {})[f"eval_{figure}"]):
                control.should_training_stop = True

    def _is_hopeless(self, figure: str, mine: float) -> bool:
        rung = str(self._rung)
        self._entry.setdefault("rungs", {})[rung] = mine
        self._tell()
        reached = (other.get("rungs", {}) for other in self._others() or [])
        theirs = [rungs[rung] for rungs in reached if rung in rungs]
        promising = is_promising(mine, theirs, more=more_is_better(figure))
        if not promising:
            logger.info(
                f"stopping early: validation {figure.replace('_', ' ')} {mine:.3f} after {self._rung:.0%} of its steps "
                f"is not among the better half of the {len(theirs) + 1} trials that have come so far"
            )
        return not promising

    def _others(self) -> list[Entry] | None:
        """None where they are not to be seen."""
        found = self._board.entries() if self._board else None
        return None if found is None else [entry for name, entry in found.items() if name != self._name]

    def _tell(self) -> None:
        if self._board:
            self._board.write(self._name, self._entry)


def _rung(state: TrainerState) -> float:
    """The last of the rungs that a training has come to; 0 before the first."""
    reached = (rung for rung in RUNGS if state.global_step >= max(1, round(rung * state.max_steps)))
    return max(reached, default=0.0)
