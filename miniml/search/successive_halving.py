"""Decides how many minutes a trial of a search gets, and whether it goes on.

This is asynchronous successive halving (ASHA) in its stopping variant: at a quarter and at half of its steps, a trial
must be among the better half of all trials that have come so far, or it ends. No trial waits for another, so it works
for trials one after another as well as in parallel; the first one always passes. See Li et al., "A System for
Massively Parallel Hyperparameter Tuning" (2020), https://arxiv.org/abs/1810.05934.
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
"""The fractions of a trial's steps at which it must be among the better half."""
REDUCTION_FACTOR = 2
"""The reduction factor: one of so many trials goes on."""
MIN_SECONDS = 0.001
"""The shortest time limit: 0 would mean no limit, but a training without time must fail."""
EXPECTED_FRACTION = 0.65
"""The fraction of a whole training that a trial takes on average. On simulated curves, 4 trials took 0.70, 8 took 0.63
and 16 took 0.59 (docs/decisions/0021)."""


def is_promising(value: float, others: Sequence[float], *, more: bool) -> bool:
    """Returns whether a metric is among the better half of all; equal values do not count as better.

    Args:
        value: The trial's metric.
        others: The metrics of the other trials at the same rung.
        more: Whether larger is better.
    """
    better = sum(other > value if more else other < value for other in others)
    return better < (len(others) + 1) / REDUCTION_FACTOR


def share_of_time(context: SearchContext, others: Sequence[Entry]) -> float:
    """Returns the seconds of the search's time limit that a trial may take.

    One after another, a trial gets the time left divided by the trainings left, most of which will end early. Time
    that one leaves goes to the later ones, and together they keep the limit. In parallel, all get the same.

    Args:
        context: The context of the search.
        others: The entries of the trials before it, with the seconds that they took or were given.
    """
    if context.at_once > 1:
        return 60 * context.even_share
    left: float = 60 * context.minutes - sum(other.get("seconds", 0.0) for other in others)
    after_it = max(0, context.trials - len(others) - 1)
    return max(0.0, left) / (1 + after_it * (EXPECTED_FRACTION if context.stop_early else 1.0))


class SuccessiveHalvingCallback(TrainerCallback):
    """Writes a trial's metrics to the scoreboard, and ends the trial where they are not promising."""

    def __init__(self, name: str, context: SearchContext, metric: str, board: Scoreboard | None) -> None:
        """Reads the trial's entry on the scoreboard, if there is one.

        Args:
            name: The name of the trial on the scoreboard.
            context: The context of the search.
            metric: The validation metric that will pick the winner.
            board: The scoreboard; None if the trial cannot see the others.
        """
        self._name, self._context, self._metric, self._board = name, context, metric, board
        entries = board.entries() if board else None
        self._entry: Entry = (entries or {}).get(name, {})
        self._rung = 0.0

    def minutes(self) -> float:
        """Returns the minutes that this trial may take; 0 is no limit. A trial that is retried gets the same again."""
        if not self._context.minutes:
            return 0.0
        if "share" not in self._entry:
            others = self._others()
            alone = 60 * self._context.even_share
            self._entry["share"] = alone if others is None else share_of_time(self._context, others)
            self.took(self._entry["share"])
        logger.info(
            f"of the search's {round(self._context.minutes, 2):g} min this trial gets {duration(self._entry['share'])}"
        )
        return max(float(self._entry["share"]), MIN_SECONDS) / 60

    def took(self, seconds: float) -> None:
        """Writes the seconds that this trial has taken, or will take, to the scoreboard."""
        self._entry["seconds"] = seconds
        self._write()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._rung = _rung(state)  # A trial that continues from a checkpoint has passed this rung.

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        before, self._rung = self._rung, _rung(state)
        if self._context.stop_early and before < self._rung and state.global_step < state.max_steps:
            # Where labels are numbers there is no F1, and the winner is picked by the loss.
            metric = self._metric if f"eval_{self._metric}" in (metrics or {}) else "loss"
            if self._is_hopeless(metric, (metrics or {})[f"eval_{metric}"]):
                control.should_training_stop = True

    def _is_hopeless(self, metric: str, value: float) -> bool:
        rung = str(self._rung)
        self._entry.setdefault("rungs", {})[rung] = value
        self._write()
        reached = (other.get("rungs", {}) for other in self._others() or [])
        other_values = [rungs[rung] for rungs in reached if rung in rungs]
        promising = is_promising(value, other_values, more=more_is_better(metric))
        if not promising:
            logger.info(
                f"stopping early: validation {metric.replace('_', ' ')} {value:.3f} after {self._rung:.0%} of its "
                f"steps is not among the better half of the {len(other_values) + 1} trials that have come so far"
            )
        return not promising

    def _others(self) -> list[Entry] | None:
        """Returns the entries of the other trials; None where they cannot be read."""
        found = self._board.entries() if self._board else None
        return None if found is None else [entry for name, entry in found.items() if name != self._name]

    def _write(self) -> None:
        if self._board:
            self._board.write(self._name, self._entry)


def _rung(state: TrainerState) -> float:
    """Returns the last rung that a training has reached; 0 before the first."""
    reached = (rung for rung in RUNGS if state.global_step >= max(1, round(rung * state.max_steps)))
    return max(reached, default=0.0)
