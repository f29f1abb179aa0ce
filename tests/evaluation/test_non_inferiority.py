"""A smaller model is shown to lose less than a margin, or not: by enumeration, and where rows have groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multinomial

from miniml.evaluation.non_inferiority import (
    POWER,
    compare_errors_with_margin,
    compare_with_margin,
    p_value,
    power,
    rows_needed,
    score,
)
from miniml.evaluation.result import LOSS_ERROR_RATE


@pytest.mark.parametrize(("rows", "max_loss"), [(20, 0.2), (30, 0.1)])
def test_a_model_that_loses_just_the_margin_passes_in_at_most_1_of_20_tests(
    rows: int, max_loss: float
) -> None:
    outcomes = [(won, lost) for won in range(rows + 1) for lost in range(rows + 1 - won)]
    passing = [outcome for outcome in outcomes if p_value(*outcome, rows, max_loss) <= LOSS_ERROR_RATE]
    for wins in np.linspace(0, (1 - max_loss) / 2, 30)[:-1]:
        shares = (wins, wins + max_loss, max(0.0, 1 - 2 * wins - max_loss))
        chance = sum(multinomial.pmf((won, lost, rows - won - lost), rows, shares) for won, lost in passing)
        assert chance <= LOSS_ERROR_RATE


def test_what_differs_on_no_row_of_few_is_not_shown_to_lose_little() -> None:
    same = np.full(300, True)
    few = compare_with_margin(same, same, "f", 0.005)
    assert (few.passed, few.comparison.gain.value) == (False, 0.0)
    # A model that loses 0.5 % of the rows loses none of 300 in 22 % of tests, and none of 700 in 3 %.
    assert few.p_value == pytest.approx(0.995**300, abs=0.002)
    assert few.rows_needed > 300
    many = np.full(700, True)
    assert compare_with_margin(many, many, "f", 0.005).passed


def test_with_no_margin_a_model_has_to_be_better() -> None:
    full = np.arange(200) < 150
    assert not compare_with_margin(full, full, "f", 0.0).passed
    assert compare_with_margin(np.arange(200) < 170, full, "f", 0.0).passed


def test_a_model_that_loses_more_than_the_margin_needs_no_more_rows() -> None:
    full = np.full(1000, True)
    worse = compare_with_margin(np.arange(1000) < 970, full, "f", 0.02)
    assert (worse.passed, worse.rows_needed) == (False, 0)
    assert worse.p_value > 0.9


def test_the_rows_that_it_would_take_are_those_on_which_the_power_is_80_percent() -> None:
    needed = rows_needed(0.05, -0.002, 0.01)
    assert power(round(needed), 0.05, -0.002, 0.01) == pytest.approx(POWER, abs=0.001)
    draw = np.random.default_rng(0)
    rows = round(needed)
    drawn = draw.multinomial(rows, (0.024, 0.026, 0.95), size=200)
    passed = np.mean([p_value(int(won), int(lost), rows, 0.01) <= LOSS_ERROR_RATE for won, lost, _ in drawn])
    assert passed == pytest.approx(POWER, abs=3 * (POWER * (1 - POWER) / 200) ** 0.5)


def test_rows_in_groups_tell_less() -> None:
    draw = np.random.default_rng(0)
    passed = {True: 0, False: 0}
    tests, groups, rows, margin = 200, 40, 800, 0.1
    of_row = np.arange(rows) % groups
    for _ in range(tests):
        # All differing rows of a group fall to one of the two models; the smaller one loses just the margin.
        loses = np.where(draw.random(groups) < 0.75, 1, -1)[of_row]
        differs = draw.random(rows) < 2 * margin
        full, smaller = differs & (loses > 0), differs & (loses < 0)
        for by_group in passed:
            test = compare_with_margin(smaller, full, "f", margin, of_row if by_group else None)
            passed[by_group] += test.passed
    assert passed[True] / tests <= LOSS_ERROR_RATE + 3 * (0.05 * 0.95 / tests) ** 0.5
    assert passed[False] / tests > 0.1


def test_one_group_shows_nothing() -> None:
    same = np.full(2000, True)
    assert compare_with_margin(same, same, "f", 0.02, np.zeros(2000, np.int64)).p_value == 1.0


def test_of_errors_the_margin_is_a_fraction_of_the_full_models_error() -> None:
    full = np.abs(np.random.default_rng(0).normal(size=400))
    assert compare_errors_with_margin(full, full, "f", 0.05).passed
    worse = compare_errors_with_margin(full * 1.06, full, "f", 0.05)
    assert (worse.passed, worse.rows_needed) == (False, 0)
    noisy = full + np.random.default_rng(1).normal(scale=0.9, size=400)
    unsure = compare_errors_with_margin(np.abs(noisy), np.abs(noisy[::-1]), "f", 0.01)
    assert not unsure.passed
    assert unsure.rows_needed > 400


@pytest.mark.parametrize("max_loss", [0.0, 5e-324, 1e-300, 1e-170, 1 - 1e-16, 1.0])
def test_a_margin_at_the_end_of_its_range_gives_a_p_value_and_some_number_of_rows(max_loss: float) -> None:
    """No row is won or lost, or each, or errors are tiny or huge."""
    for full, smaller in ((np.full(30, True), np.full(30, False)), (np.full(30, True), np.full(30, True))):
        test = compare_with_margin(smaller, full, "f", max_loss)
        assert 0 <= test.p_value <= 1
        assert test.rows_needed >= 0
    for scale in (1e-200, 1.0, 1e150):
        errors = scale * np.linspace(0, 1, 30)
        test = compare_errors_with_margin(1.1 * errors, errors, "f", max_loss)
        assert 0 <= test.p_value <= 1
        assert test.rows_needed >= 0
    assert rows_needed(0.1, 0.1, max_loss) > 0


@pytest.mark.filterwarnings("error")
def test_a_score_has_a_value_however_near_to_1_the_margin_is() -> None:
    for rows in range(1, 300):
        assert np.isfinite(score(0, np.arange(rows + 1), rows, 1 - 1e-9)).all()
