"""Is the model better than the one that is served now, or only luckier on this test?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from miniml.evaluation_result import Comparison, Figure

CONFIDENCE = 0.95

Rightness = npt.NDArray[np.bool_]
"""Whether each test row was answered rightly, shape [rows]."""


def compare(challenger: Rightness, champion: Rightness, champion_digest: str) -> Comparison:
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
        champion_accuracy=float(np.mean(champion)),
        only_challenger=only_challenger,
        only_champion=only_champion,
        gain=Figure(
            (only_challenger - only_champion) / rows, *_interval(only_challenger, only_champion, rows)
        ),
        p_value=float(p_value),
    )


def _interval(only_challenger: int, only_champion: int, rows: int) -> tuple[float, float]:
    """Of a difference of paired shares: Wald's, after half a row is added to each cell (Agresti and Min, 2005)."""
    b, c, n = only_challenger + 0.5, only_champion + 0.5, rows + 2.0
    centre = (b - c) / n
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return max(-1.0, centre - half), min(1.0, centre + half)
