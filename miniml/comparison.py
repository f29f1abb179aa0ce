"""Is the model better than the one that is served now, or only luckier on this test?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from miniml.evaluation_result import Comparison, Figure
from miniml.predictions import NumberPredictions, Predictions
from miniml.task import Task

CONFIDENCE = 0.95

# By chance alone: so that a p-value of 0.05 is within 0.004 of what all exchanges would give.
EXCHANGES = 9_999
RESAMPLES = 2_000
# Numbers that are held at once.
AT_ONCE = 2_000_000

Rightness = npt.NDArray[np.bool_]
"""Whether each test row was answered rightly, shape [rows]."""
Errors = npt.NDArray[np.float64]
"""By how much each test row was missed, shape [rows]."""


def compare_answers(challenger: Predictions, champion: Predictions, champion_digest: str) -> Comparison:
    """Compares two models' answers to the same rows: by their errors where these are numbers, else by rightness."""
    if isinstance(challenger, NumberPredictions) and isinstance(champion, NumberPredictions):
        return compare_errors(challenger.errors, champion.errors, champion_digest)
    return compare(challenger.right, champion.right, champion_digest, challenger.task.measure)


def compare(
    challenger: Rightness,
    champion: Rightness,
    champion_digest: str,
    measure: str = Task.SINGLE_LABEL.measure,
) -> Comparison:
    """Compares two models by their answers to the same rows, in the same order.

    Only the rows on which one is right and the other wrong tell them apart. Were the two of equal worth, each
    such row would fall to either like a coin: the exact binomial test (McNemar's) needs no approximation.
    The interval of the gain is Agresti and Min's, which holds also where few rows differ.
    """
    rows = len(challenger)
    only_challenger = int(np.sum(challenger & ~champion))
    only_champion = int(np.sum(champion & ~challenger))
    differing = only_challenger + only_champion
    p_value = binomtest(only_challenger, differing, alternative="greater").pvalue if differing else 1.0
    return Comparison(
        champion_digest=champion_digest,
        champion_figure=float(np.mean(champion)),
        only_challenger=only_challenger,
        only_champion=only_champion,
        gain=Figure(
            (only_challenger - only_champion) / rows, *_interval(only_challenger, only_champion, rows)
        ),
        p_value=float(p_value),
        measure=measure,
    )


def compare_errors(challenger: Errors, champion: Errors, champion_digest: str) -> Comparison:
    """The same of two models that miss each row by some amount.

    Were the two of equal worth, either's error on a row might as well be the other's: the p-value is the share of such
    exchanges, row by row and at random, that favour the challenger as much as what was measured. The interval of the
    gain is that of its mean on rows drawn again.
    """
    gains = champion - challenger
    gain = float(gains.mean())
    draw = np.random.default_rng(0)
    as_good, means = 0, []
    at_once = max(1, AT_ONCE // len(gains))
    for begin in range(0, EXCHANGES, at_once):
        signs = draw.integers(0, 2, (min(at_once, EXCHANGES - begin), len(gains)), dtype=np.int8) * 2.0 - 1
        # A hair less, or the unchanged order would be beaten by its own rounding.
        as_good += int((signs @ gains / len(gains) >= gain - 1e-12 * np.abs(gains).max()).sum())
    for begin in range(0, RESAMPLES, at_once):
        rows = draw.integers(len(gains), size=(min(at_once, RESAMPLES - begin), len(gains)))
        means.append(gains[rows].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(
        champion_digest=champion_digest,
        champion_figure=float(champion.mean()),
        only_challenger=int((gains > 0).sum()),
        only_champion=int((gains < 0).sum()),
        gain=Figure(gain, min(gain, float(low)), max(gain, float(high))),
        p_value=(as_good + 1) / (EXCHANGES + 1),
        measure=Task.REGRESSION.measure,
    )


def _interval(only_challenger: int, only_champion: int, rows: int) -> tuple[float, float]:
    """Of a difference of paired shares: Wald's, after half a row is added to each cell (Agresti and Min, 2005)."""
    b, c, n = only_challenger + 0.5, only_champion + 0.5, rows + 2.0
    centre = (b - c) / n
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return max(-1.0, centre - half), min(1.0, centre + half)
