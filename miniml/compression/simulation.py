"""Simulates how often a smaller model replaces the full one, rightly and wrongly, by choice and verdict together.

python -m miniml.compression.simulation --runs 1000
python -m miniml.compression.simulation --rows-needed
"""

from __future__ import annotations

import functools
import math
import sys
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from miniml.command_line import CommandParser
from miniml.errors import MinimlError
from miniml.evaluation.bootstrap import wilson_interval
from miniml.evaluation.non_inferiority import p_value, rows_needed, score
from miniml.evaluation.result import LOSS_ERROR_RATE
from miniml.settings.checks import require_at_least, require_count, require_fraction, require_max_loss

MAX_SIMULATED = 1_000_000
"""The maximum number of runs or rows in a simulation, so that it ends in reasonable time."""
LOSSES = (1.0, 0.5, 0.0)
"""The true losses of all candidates, in margins: just as much as the margin, half of it, and none."""
ROWS = (250, 1000, 4000)
DIFFER = (0.02, 0.05, 0.1)
MARGINS = (0.005, 0.01, 0.02, 0.03)
"""The margins for which the rows that they need are told."""


@dataclass(frozen=True)
class SimulatedRuns:
    """The settings of a simulation: runs that make several smaller models of one full model."""

    number: int = 1000
    candidates: int = 4
    """The number of smaller models, which are equally good, and all faster than the full one."""
    accuracy: float = 0.875
    """The full model's true accuracy."""
    max_loss: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("number", "candidates"):
            require_count(name, getattr(self, name), MAX_SIMULATED)
        require_at_least("seed", self.seed, 0)
        for name in ("accuracy", "max_loss"):
            require_fraction(name, getattr(self, name), "85 % is 0.85")
        require_max_loss(self.max_loss)


@dataclass(frozen=True)
class Rates:
    """How often smaller models get through, as fractions of the runs."""

    chosen: float
    """Some candidate is chosen on the validation rows."""
    served: float
    """The chosen one also passes on the test rows, and replaces the full model."""
    covered: float
    """Where one was chosen: the interval of the accuracy that is reported, of whichever model is served, holds the true
    accuracy of that model. The same rows decide between the two models and measure the one that is served."""
    optimism: float
    """By how much the reported accuracy is above the true one there, in the mean."""


def rates(
    simulated: SimulatedRuns, validation_rows: int, test_rows: int, differ: float, loss: float
) -> Rates | None:
    """Returns how often a candidate is chosen on validation, and then passes on the test.

    The candidates are in the order of their speed, the fastest first. Their answers are independent given the full
    model's.

    Args:
        simulated: The settings of the simulation.
        validation_rows: The number of validation rows.
        test_rows: The number of test rows.
        differ: The fraction of the rows that a candidate and the full model do not both get right or wrong.
        loss: By how much each candidate's true accuracy is below the full model's.

    Returns:
        The rates, or None if there are no such models: the loss is above `differ`, or the full model has too few rows
        right or wrong.
    """
    wins, losses = (differ - loss) / 2, (differ + loss) / 2
    if wins < 0 or losses > simulated.accuracy or wins > 1 - simulated.accuracy:
        return None
    draw = np.random.default_rng(simulated.seed)
    chosen = served = covered = 0
    optimism = 0.0
    of_wrong, of_right = wins / (1 - simulated.accuracy), losses / simulated.accuracy
    for _ in range(simulated.number):
        right = draw.binomial(validation_rows, simulated.accuracy)
        won = draw.binomial(validation_rows - right, of_wrong, simulated.candidates)
        lost = draw.binomial(right, of_right, simulated.candidates)
        if not any(
            passes(int(w), int(each), validation_rows, simulated.max_loss)
            for w, each in zip(won, lost, strict=True)
        ):
            continue
        chosen += 1
        # The rows of the test are fresh, and all candidates alike: which one was chosen does not matter.
        both_right = simulated.accuracy - losses
        chances = (wins, losses, both_right, 1 - differ - both_right)
        won_there, lost_there, right_there, _ = map(int, draw.multinomial(test_rows, chances))
        passed = passes(won_there, lost_there, test_rows, simulated.max_loss)
        served += passed
        true_accuracy = simulated.accuracy - loss * passed
        reported, low, high = wilson_interval(right_there + (won_there if passed else lost_there), test_rows)
        covered += low <= true_accuracy <= high
        optimism += reported - true_accuracy
    of_chosen = max(chosen, 1)
    return Rates(
        chosen / simulated.number, served / simulated.number, covered / of_chosen, optimism / of_chosen
    )


def passes(won: int, lost: int, rows: int, max_loss: float) -> bool:
    """Returns whether a model with these wins and losses is shown to lose less than `max_loss`.

    Args:
        won: The number of rows that only the smaller model answers correctly.
        lost: The number of rows that only the full one does.
        rows: The number of all rows.
        max_loss: The margin, as a fraction of the rows.
    """
    return won >= _fewest_wins(lost, rows, max_loss)


@functools.cache
def _fewest_wins(lost: int, rows: int, max_loss: float) -> int:
    """Returns the fewest won rows with which a model of so many lost rows passes; more than there are if none do."""
    above = score(np.arange(rows - lost + 1), lost, rows, max_loss)
    # The exact test's limit is near the one of a normal distribution.
    won = int(np.searchsorted(above, norm.isf(LOSS_ERROR_RATE)))
    while won > 0 and p_value(won - 1, lost, rows, max_loss) <= LOSS_ERROR_RATE:
        won -= 1
    while won <= rows - lost and p_value(won, lost, rows, max_loss) > LOSS_ERROR_RATE:
        won += 1
    return won


def tables(simulated: SimulatedRuns) -> tuple[str, str]:
    """Returns two Markdown tables with a row for each number of rows and each fraction of differing ones.

    A cell of the first says how often a candidate is served, and how often one is chosen on validation. A cell of the
    second says, of the runs in which one was chosen, how often the interval that is reported holds the accuracy of the
    served model, and by how many points the figure is too high.
    """
    heads = ["rows of each split", "rows that differ", "loss = max_loss", "half of it", "no loss"]
    served = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    reported = served.copy()
    for rows in ROWS:
        for differ in DIFFER:
            found = [rates(simulated, rows, rows, differ, share * simulated.max_loss) for share in LOSSES]
            for lines, cell in ((served, _served), (reported, _reported)):
                lines.append(f"| {rows:,} | {100 * differ:g} % | {' | '.join(map(cell, found))} |")
    return "\n".join(served), "\n".join(reported)


def passing_rate(simulated: SimulatedRuns, rows: int, differ: float, loss: float) -> float:
    """Returns how often one smaller model is shown, on one split, to lose less than the margin.

    Args:
        simulated: The settings of the simulation.
        rows: The number of rows of the split.
        differ: The fraction of the rows that one model answers correctly and the other does not.
        loss: By how much the smaller model's true accuracy is below the full one's.
    """
    shares = ((differ - loss) / 2, (differ + loss) / 2, 1 - differ)
    drawn = np.random.default_rng(simulated.seed).multinomial(rows, shares, simulated.number)
    return float(np.mean([passes(int(won), int(lost), rows, simulated.max_loss) for won, lost, _ in drawn]))


def table_of_rows() -> str:
    """Returns a Markdown table of the rows on which a smaller model passes one test with the probability `POWER`.

    It has a row for each margin and each fraction of differing rows.
    """
    heads = ["max_loss", "rows that differ", "it loses nothing", "it loses a quarter of max_loss"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for margin in MARGINS:
        for differ in DIFFER:
            rows = [math.ceil(rows_needed(differ, -share * margin, margin)) for share in (0.0, 0.25)]
            cells = (f"{margin:g}", f"{100 * differ:g} %", *(f"{each:,}" for each in rows))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _served(found: Rates | None) -> str:
    return "impossible" if found is None else f"{100 * found.served:.1f} % ({100 * found.chosen:.1f} %)"


def _reported(found: Rates | None) -> str:
    if not (found and found.chosen):
        return "none chosen"
    return f"{100 * found.covered:.1f} %, {100 * found.optimism:+.2f}"


def main(words: list[str] | None = None) -> None:
    """Prints the table that the command line asks for.

    Raises:
        InputError: an option cannot be used.
    """
    defaults = SimulatedRuns()
    parser = CommandParser("python -m miniml.compression.simulation", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=defaults.number, metavar="N", help="for each figure")
    add(
        "--rows-needed",
        action="store_true",
        help="print on how many rows a smaller model passes in 4 of 5 tests",
    )
    add("--candidates", type=int, default=defaults.candidates, help="smaller models of each run")
    add("--accuracy", type=float, default=defaults.accuracy, help="of the full model")
    add("--max-loss", type=float, default=defaults.max_loss, help="the margin")
    add("--seed", type=int, default=defaults.seed)
    options = parser.parse_args(words)
    simulated = SimulatedRuns(
        options.runs, options.candidates, options.accuracy, options.max_loss, options.seed
    )
    if options.rows_needed:
        print(table_of_rows())
        return
    served, reported = tables(simulated)
    print(
        f"How often a smaller model is served (and chosen on validation), of {simulated.number:,} runs each with "
        f"{simulated.candidates} equally good candidates: the full model's accuracy {simulated.accuracy:.3g}, max_loss "
        f"{simulated.max_loss:g}.\n\n{served}\n\nOf the runs in which one was chosen: how often the 95 % interval "
        "that is reported holds the true accuracy of the served model, and by how many points the figure is too "
        f"high.\n\n{reported}"
    )


if __name__ == "__main__":
    try:
        main()
    except MinimlError as error:
        sys.exit(f"error: {error}")
