"""Two models on the same rows: the exact test, by hand and by another library's figures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from miniml.evaluation.comparison import compare, compare_errors


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


def test_rows_in_groups_fall_to_a_model_together_and_the_test_is_still_exact() -> None:
    draw = np.random.default_rng(0)
    groups = np.array([1, 1, 1, 2, 2, 3, 4, 4, 5, 6])
    challenger, champion = draw.random(10) < 0.7, draw.random(10) < 0.5
    gains = np.array([(challenger[groups == one] * 1 - champion[groups == one]).sum() for one in range(1, 7)])
    signs = np.array(list(itertools.product([-1, 1], repeat=6)))
    by_hand = float(np.mean((signs * np.abs(gains)).sum(axis=1) >= gains.sum()))
    assert compare(challenger, champion, "", groups).p_value == pytest.approx(by_hand, abs=1e-12)
    alone = compare(challenger, champion, "", np.arange(10))
    assert alone.p_value == pytest.approx(compare(challenger, champion, "").p_value)


def test_a_large_test_in_groups_has_its_p_value_at_once() -> None:
    draw = np.random.default_rng(0)
    groups = draw.integers(5000, size=100_000)
    challenger, champion = draw.random(100_000) < 0.81, draw.random(100_000) < 0.8
    found = compare(challenger, champion, "", groups)
    assert found.p_value < 1e-4
    assert found.gain.low > 0


def test_one_group_tells_of_no_other() -> None:
    right, wrong = np.full(30, True), np.full(30, False)
    found = compare(right, wrong, "", np.zeros(30, np.int64))
    assert (found.p_value, found.gain.low, found.gain.high) == (0.5, -1.0, 1.0)


def test_numbers_in_groups_are_exchanged_together() -> None:
    groups = np.repeat(np.arange(4), 25)
    better = compare_errors(np.full(100, 0.1), np.full(100, 0.2), "", groups)
    assert better.p_value == pytest.approx(1 / 16, abs=0.01)
    assert compare_errors(np.full(100, 0.1), np.full(100, 0.2), "").p_value < 0.001
