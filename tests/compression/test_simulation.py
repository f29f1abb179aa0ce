"""How often a smaller model that loses too much is served, and how often one that does not: by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miniml.compression.simulation import SimulatedRuns, main, passes, passing_rate, rates
from miniml.errors import InputError
from miniml.evaluation.non_inferiority import compare_with_margin, rows_needed
from miniml.evaluation.result import LOSS_ERROR_RATE
from tests.command import ROOT

RUNS = SimulatedRuns(number=1000)
MARGIN = RUNS.max_loss


@pytest.mark.parametrize("differ", [0.03, 0.1])
@pytest.mark.parametrize("validation_rows", [200, 1000])
def test_a_model_that_loses_just_the_margin_is_served_in_at_most_1_of_20_runs(
    validation_rows: int, differ: float
) -> None:
    found = rates(RUNS, validation_rows, 1000, differ, MARGIN)
    assert found is not None
    assert found.served <= LOSS_ERROR_RATE
    assert found.served <= found.chosen


def test_the_verdict_keeps_the_rate_however_lucky_the_choice_is() -> None:
    # Of a hundred candidates some one is nearly always chosen.
    many = SimulatedRuns(number=500, candidates=100)
    found = rates(many, 1000, 1000, 0.05, MARGIN)
    assert found is not None
    assert found.chosen > 0.5
    assert found.served <= LOSS_ERROR_RATE + 3 * (0.05 * 0.95 / 500) ** 0.5


def test_the_better_a_model_is_and_the_more_rows_there_are_the_oftener_it_is_served() -> None:
    by_loss = [rates(RUNS, 1000, 1000, 0.05, share * MARGIN) for share in (1.0, 0.5, 0.0)]
    by_rows = [rates(RUNS, rows, rows, 0.05, 0.0) for rows in (200, 1000, 2000)]
    for found in (by_loss, by_rows):
        served = [each.served for each in found if each]
        assert len(served) == 3
        assert served == sorted(served)
        assert served[-1] > 0.7


@pytest.mark.parametrize("loss", [0.0, 0.5, 1.0])
def test_the_accuracy_that_is_reported_is_the_served_models_though_the_same_rows_decided(loss: float) -> None:
    found = rates(SimulatedRuns(number=4000), 4000, 4000, 0.05, loss * MARGIN)
    assert found is not None
    standard_error = (0.95 * 0.05 / (4000 * max(found.chosen, 0.01))) ** 0.5
    assert found.covered >= 0.95 - 3 * standard_error
    assert abs(found.optimism) < 0.003


def test_the_simulation_decides_as_the_comparison_does() -> None:
    draw = np.random.default_rng(1)
    for _ in range(10):
        smaller, full = draw.random(400) < 0.9, draw.random(400) < 0.87
        test = compare_with_margin(smaller, full, "f", 0.03)
        won, lost = test.comparison.only_challenger, test.comparison.only_champion
        assert passes(won, lost, 400, 0.03) == test.passed


def test_models_that_cannot_be_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert rates(RUNS, 100, 100, 0.01, 0.02) is None
    with pytest.raises(InputError, match="max_loss is 0"):
        main(["--runs", "1", "--max-loss", "0"])


def test_the_docs_show_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--runs", "1000"])
    _, served, _, reported = capsys.readouterr().out.strip().split("\n\n")
    decision = (ROOT / "docs" / "decisions" / "0045-a-smaller-model-is-shown-not-to-be-worse.md").read_text()
    assert served in decision
    assert reported in decision


def test_on_the_rows_that_it_takes_a_model_passes_in_4_of_5_tests_and_the_guide_tells_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for differ, loss in ((0.1, 0.0), (0.1, MARGIN / 4)):
        rows = math.ceil(rows_needed(differ, -loss, MARGIN))
        assert passing_rate(RUNS, rows, differ, loss) == pytest.approx(0.8, abs=0.05)
    main(["--rows-needed"])
    guide = (ROOT / "docs" / "how-to" / "smaller-model.md").read_text()
    assert capsys.readouterr().out in guide
