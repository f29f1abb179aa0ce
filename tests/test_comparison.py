"""Two models on the same rows: the exact test, by hand and by another library's figures."""

from __future__ import annotations

import numpy as np
import pytest

from miniml.comparison import compare


def _rightness(both: int, challenger: int, champion: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = [True] * (both + challenger) + [False] * (champion + neither)
    second = [True] * both + [False] * challenger + [True] * champion + [False] * neither
    return np.array(first), np.array(second)


def test_only_rows_that_tell_them_apart_count() -> None:
    found = compare(*_rightness(both=80, challenger=9, champion=1, neither=10), "c" * 64)
    assert (found.only_challenger, found.only_champion, found.champion_accuracy) == (9, 1, 0.81)
    assert found.gain.value == pytest.approx(0.08)
    # Of ten fair coins, nine heads or more: 11 in 1,024.
    assert found.p_value == pytest.approx(11 / 1024)
    assert 0 < found.gain.low < 0.08 < found.gain.high < 0.17


def test_the_same_answers_are_no_gain_and_no_evidence() -> None:
    found = compare(*_rightness(both=90, challenger=0, champion=0, neither=10), "c" * 64)
    assert (found.gain.value, found.p_value) == (0.0, 1.0)
    assert found.gain.low < 0 < found.gain.high


def test_a_worse_challenger_has_no_evidence() -> None:
    assert compare(*_rightness(80, 1, 9, 10), "c" * 64).p_value > 0.99
