"""Simulates how often the gate's champion rule lets a model through, rightly and wrongly.

python -m miniml.gate.simulation --simulate-aa 1000
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from miniml.command_line import CommandParser
from miniml.errors import InputError, MinimlError
from miniml.evaluation.comparison import compare
from miniml.evaluation.predictions import Predictions
from miniml.gate.rules import Rate
from miniml.settings.checks import require_at_least, require_count, require_fraction
from miniml.settings.gate import GateSettings

MAX_SIMULATED = 10_000_000
"""The maximum number of pairs or rows in a simulation, so that it ends in reasonable time."""
GAINS = (0.0, 0.01, 0.02, 0.04)
"""The gains of the challenger's true accuracy over the champion's; 0 is A/A, two equally good models."""

CHALLENGERS = (1, 2, 7, 10, 20, 50)
GROUPS = (20, 50, 200)
# Fewer tests of many challengers, since each has many models, and of rows in groups, since each is compared by itself.
MAX_CHALLENGED, MAX_GROUPED = 10_000, 1000

# Two models of accuracy a whose errors are independent differ on 2a(1 - a) of the rows. The errors of models that were
# trained on the same rows are correlated, so they differ on a fraction of that.
OVERLAPS = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class SimulatedTests:
    """The settings of a simulation: pairs of models, each pair on a test of its own."""

    number: int = 1000
    rows: int = 1000
    accuracy: float = 0.875
    """The champion's true accuracy."""
    differ: float | None = None
    """The fraction of the rows that one model gets right and the other wrong; None tries several."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("number", "rows"):
            require_count(name, getattr(self, name), MAX_SIMULATED)
        require_at_least("seed", self.seed, 0)
        require_fraction("accuracy", self.accuracy, "85 % is 0.85")
        most = 2 * min(self.accuracy, 1 - self.accuracy)
        if self.differ is not None and not 0 < self.differ <= most:
            raise InputError(
                f"differ is {self.differ}; two models of accuracy {self.accuracy:g} differ on more than 0 and at most "
                f"{most:g} of the rows."
            )

    @classmethod
    def like(cls, champion: Path, challenger: Path, number: int, seed: int = 0) -> SimulatedTests:
        """Returns simulated tests of models that differ as much as two real ones.

        Args:
            champion: The file of one model's predictions.
            challenger: The file of the other model's predictions for the same rows.
            number: The number of pairs.
            seed: The seed of the simulation.

        Raises:
            InputError: A file holds no predictions, or they are for different rows.
        """
        first, second = Predictions.read(champion), Predictions.read(challenger)
        if first.data_fingerprint != second.data_fingerprint or first.texts != second.texts:
            raise InputError(
                f"{champion} and {challenger} hold predictions of other rows. Give two of the same test."
            )
        differ = float(np.mean(first.correct != second.correct))
        return cls(number, len(first.texts), float(np.mean(first.correct)), differ, seed)

    @property
    def differing_fractions(self) -> list[float]:
        """The fractions of differing rows to try."""
        independent = 2 * self.accuracy * (1 - self.accuracy)
        return [self.differ] if self.differ is not None else [independent * part for part in OVERLAPS]


def promoted(simulated: SimulatedTests, differ: float, gain: float, settings: GateSettings) -> float | None:
    """Returns the fraction of the simulated tests in which the gate prefers the challenger, the first of its champion.

    Args:
        simulated: The settings of the simulation.
        differ: The fraction of the rows that one model gets right and the other wrong.
        gain: By how much the challenger's true accuracy is above the champion's.
        settings: The gate's settings.

    Returns:
        The fraction, or None if there are no such models: the gain is above `differ`, or leads beyond 100 %.
    """
    only_challenger, only_champion = (differ + gain) / 2, (differ - gain) / 2
    if only_champion < 0 or only_challenger > 1 - simulated.accuracy:
        return None
    draw = np.random.default_rng(simulated.seed)
    probabilities = (only_challenger, only_champion, 1 - differ)
    won, lost, _ = draw.multinomial(simulated.rows, probabilities, size=simulated.number).T
    enough = (won - lost) / simulated.rows >= settings.min_gain
    return float(np.mean((p_values(won, lost) <= Rate.of_challenge(settings, 1).value) & enough))


def ever_promoted(
    simulated: SimulatedTests, differ: float, challengers: int, rates: Sequence[float]
) -> float:
    """Returns the fraction of the simulated tests in which one of several equally good challengers replaces a champion.

    Args:
        simulated: The settings of the simulation.
        differ: The fraction of the rows that one model gets right and the other wrong.
        challengers: The number of challengers, all of which are evaluated on the same test.
        rates: The error rate at which each challenger is judged.
    """
    draw = np.random.default_rng(simulated.seed)
    # The probabilities that a challenger loses a row that the champion gets right, or wins one that it gets wrong: with
    # these, both models are right equally often.
    loses = differ / (2 * simulated.accuracy)
    wins = differ / (2 * (1 - simulated.accuracy))
    right = draw.binomial(simulated.rows, simulated.accuracy, size=simulated.number)
    # The challengers' answers are independent given the champion's, which all of them are compared with.
    size = (challengers, simulated.number)
    won, lost = draw.binomial(simulated.rows - right, wins, size=size), draw.binomial(right, loses, size=size)
    better = p_values(won, lost) <= np.array(rates)[:, None]
    return float(better.any(axis=0).mean())


def challengers_table(simulated: SimulatedTests, settings: GateSettings) -> str:
    """Returns a Markdown table with a row for each number of equally good challengers.

    Its columns judge all challengers at the same error rate, or each at its own part of it.
    """
    differ = simulated.differing_fractions[len(simulated.differing_fractions) // 2]
    lines = ["| equal challengers on one test | each at error_rate | each at what is left |", "|---|---|---|"]
    for count in CHALLENGERS:
        alike = ever_promoted(simulated, differ, count, [settings.error_rate] * count)
        spent = [Rate.of_challenge(settings, number).value for number in range(1, count + 1)]
        left = ever_promoted(simulated, differ, count, spent)
        lines.append(f"| {count} | {_percent(alike)} | {_percent(left)} |")
    return "\n".join(lines)


def grouped(simulated: SimulatedTests, groups: int, settings: GateSettings, *, by_group: bool) -> float:
    """Returns the fraction of pairs of equal models in which the challenger is let through, for rows in groups.

    In each group one of the two models is better, at random: on the rows on which they differ, it is right with
    probability 0.8.

    Args:
        simulated: The settings of the simulation.
        groups: The number of groups, which are equal in size.
        settings: The gate's settings.
        by_group: Whether the comparison knows the groups.
    """
    draw = np.random.default_rng(simulated.seed)
    of_row = np.arange(simulated.rows) % groups
    differ = simulated.differing_fractions[len(simulated.differing_fractions) // 2]
    found = []
    for _ in range(simulated.number):
        favours = np.where(draw.random(groups) < 0.5, 0.8, 0.2)[of_row]
        apart, wins = draw.random(simulated.rows) < differ, draw.random(simulated.rows) < favours
        group_of = of_row if by_group else None
        found.append(compare(apart & wins, apart & ~wins, "", group_of).p_value <= settings.error_rate)
    return float(np.mean(found))


def groups_table(simulated: SimulatedTests, settings: GateSettings) -> str:
    """Returns a Markdown table with a row for each number of groups; its columns ignore or use the groups."""
    lines = ["| groups | rows as strangers | by group |", "|---|---|---|"]
    for count in GROUPS:
        fractions = (grouped(simulated, count, settings, by_group=by_group) for by_group in (False, True))
        lines.append(f"| {count} | {' | '.join(map(_percent, fractions))} |")
    return "\n".join(lines)


def p_values(won: npt.NDArray[np.int64], lost: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Returns the p-values of many tests at once, as `comparison.compare` defines them.

    Args:
        won: The rows of each test that only the challenger gets right.
        lost: The rows of each test that only the champion gets right.

    Returns:
        The probability that a fair coin falls heads `won` times or more in `won + lost`, in the shape of `won`.
    """
    values: npt.NDArray[np.float64] = binom.sf(won - 1, won + lost, 0.5)
    return values


def power_table(simulated: SimulatedTests, settings: GateSettings) -> str:
    """Returns a Markdown table with a row for each fraction of differing rows and a column for each gain."""
    heads = ["no gain (A/A)", *(f"+{100 * gain:g} points" for gain in GAINS[1:])]
    lines = [
        f"| rows that differ | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for differ in simulated.differing_fractions:
        cells = [_percent(promoted(simulated, differ, gain, settings)) for gain in GAINS]
        lines.append(f"| {100 * differ:.1f} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(fraction: float | None) -> str:
    return "impossible" if fraction is None else f"{100 * fraction:.1f} %"


def main(words: list[str] | None = None) -> None:
    """Prints the table that the command line asks for.

    Raises:
        InputError: an option cannot be used.
    """
    simulated, rules = SimulatedTests(), GateSettings()
    parser = CommandParser("python -m miniml.gate.simulation", description=__doc__)
    add = parser.add_argument
    add("--simulate-aa", type=int, required=True, metavar="N", help="pairs of models, for each figure")
    add("--rows", type=int, default=simulated.rows, help="of the test")
    add("--accuracy", type=float, default=simulated.accuracy, help="of the champion")
    add("--differ", type=float, help="fraction of the rows that one model gets right and the other wrong")
    add("--error-rate", type=float, default=rules.error_rate, help="the gate's")
    add("--min-gain", type=float, default=rules.min_gain, help="the gate's")
    add(
        "--predictions",
        type=Path,
        nargs=2,
        metavar=("CHAMPION", "CHALLENGER"),
        help="predictions.parquet of two runs, which say the rows, the accuracy and how far two models differ",
    )
    add("--seed", type=int, default=simulated.seed)
    options = parser.parse_args(words)
    if options.predictions:
        champion, challenger = options.predictions
        simulated = SimulatedTests.like(champion, challenger, options.simulate_aa, options.seed)
    else:
        simulated = SimulatedTests(
            options.simulate_aa, options.rows, options.accuracy, options.differ, options.seed
        )
    settings = GateSettings(error_rate=options.error_rate, min_gain=options.min_gain)
    fewer, fewest = (
        replace(simulated, number=min(simulated.number, most)) for most in (MAX_CHALLENGED, MAX_GROUPED)
    )
    print(
        f"How often the challenger is let through, of {simulated.number:,} pairs each: {simulated.rows:,} test rows, "
        f"champion's accuracy {simulated.accuracy:.3g}, error_rate {settings.error_rate:g}, min_gain "
        f"{settings.min_gain:g}.\n\n{power_table(simulated, settings)}\n\n"
        f"How often a champion loses its place to one of several models of equal worth, all on one test, "
        f"{fewer.number:,} times each:\n\n{challengers_table(fewer, settings)}\n\n"
        f"How often a model of equal worth passes for better at error_rate, where rows have groups, of "
        f"{fewest.number:,} pairs each:\n\n{groups_table(fewest, settings)}"
    )


if __name__ == "__main__":
    try:
        main()
    except MinimlError as error:
        sys.exit(f"error: {error}")
