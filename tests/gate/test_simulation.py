"""How often the gate is mistaken, and how often it sees a gain: by simulation, and by the rule's own code."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from miniml.champion.record import Champion
from miniml.errors import InputError
from miniml.evaluation.comparison import compare
from miniml.gate.rules import Rate, judge
from miniml.gate.simulation import SimulatedTests, ever_promoted, grouped, main, p_values, promoted
from miniml.settings.gate import GateSettings
from miniml.tasks.single_label.predictions import SingleLabelPredictions
from tests.command import ROOT
from tests.gate.test_gate import RESULT

RULES = GateSettings()


@pytest.mark.parametrize("rows", [200, 1000, 5000])
@pytest.mark.parametrize("differ", [0.02, 0.1, 0.2])
def test_two_models_of_equal_worth_are_promoted_no_oftener_than_the_error_rate(
    rows: int, differ: float
) -> None:
    trials = SimulatedTests(number=1000, rows=rows)
    share = promoted(trials, differ, 0.0, RULES)
    # The first challenger is left half of the rate. Three standard errors of such a share in 1,000 trials.
    assert share is not None
    assert share <= RULES.error_rate / 2 + 3 * (0.025 * 0.975 / 1000) ** 0.5


def test_the_rate_is_kept_at_other_rates_too_and_power_grows_with_the_gain() -> None:
    trials = SimulatedTests(number=20_000)
    for rate in (0.01, 0.2):
        share = promoted(trials, 0.1, 0.0, GateSettings(error_rate=rate))
        assert share is not None
        assert rate / 4 < share <= rate / 2 + 3 * (rate / 20_000) ** 0.5
    powers = [promoted(trials, 0.1, gain, RULES) for gain in (0.0, 0.01, 0.02, 0.04)]
    assert powers == sorted(powers)  # type: ignore[type-var]
    assert promoted(trials, 0.1, 0.02, GateSettings(min_gain=0.02)) < powers[2]  # type: ignore[operator]


def test_the_simulation_decides_as_the_gate_does() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        challenger, champion = draw.random(300) < 0.9, draw.random(300) < 0.85
        found = compare(challenger, champion, "c" * 64)
        won, lost = np.array([found.only_challenger]), np.array([found.only_champion])
        assert p_values(won, lost)[0] == pytest.approx(found.p_value)
        verdict = judge(replace(RESULT, comparison=found), RULES, Champion("c" * 64))
        assert verdict.approved == (p_values(won, lost)[0] <= RULES.error_rate / 2)


@pytest.mark.parametrize("challengers", [7, 50])
def test_many_equal_challengers_on_one_test_are_promoted_no_oftener_than_one(challengers: int) -> None:
    trials = SimulatedTests(number=2000)
    spent = [Rate.of_challenge(RULES, number).value for number in range(1, challengers + 1)]
    margin = 3 * (0.05 * 0.95 / 2000) ** 0.5
    assert ever_promoted(trials, 0.1, challengers, spent) <= RULES.error_rate + margin
    assert ever_promoted(trials, 0.1, challengers, [RULES.error_rate] * challengers) > 0.15


def test_rows_in_groups_promote_an_equal_model_no_oftener_than_strangers_do() -> None:
    trials = SimulatedTests(number=300, rows=400)
    margin = 3 * (0.05 * 0.95 / 300) ** 0.5
    assert grouped(trials, 10, RULES, by_group=True) <= RULES.error_rate + margin
    assert grouped(trials, 10, RULES, by_group=False) > 0.1  # as it was before


def test_the_docs_show_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--simulate-aa", "100000"])
    tables = [part for part in capsys.readouterr().out.strip().split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert table in (ROOT / "docs" / "gate.md").read_text()


def test_two_real_models_say_how_far_models_differ(tmp_path: Path) -> None:
    def save(name: str, right: npt.NDArray[np.bool_], fingerprint: str = "f") -> Path:
        references = np.zeros(len(right), dtype=np.int64)
        shares = np.eye(2, dtype=np.float32)[1 - right.astype(int)]
        texts = [str(row) for row in range(len(right))]
        SingleLabelPredictions(
            ("a", "b"), texts, references, shares, shares, references, "d", fingerprint
        ).save(tmp_path / name)
        return tmp_path / name

    right = np.arange(100) < 80
    champion, challenger = save("champion", right), save("challenger", np.roll(right, 5))
    trials = SimulatedTests.like(champion, challenger, 10)
    assert (trials.rows, trials.accuracy, trials.differ) == (100, 0.8, 0.1)
    with pytest.raises(InputError, match="of other rows"):
        SimulatedTests.like(champion, save("other", right, "g"), 10)


def test_the_command_runs_and_refuses_what_cannot_be() -> None:
    words = [sys.executable, "-m", "miniml.gate.simulation", "--simulate-aa", "1000"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "no gain (A/A)" in done.stdout
    refused = subprocess.run([*words, "--differ=0.9"], cwd=ROOT, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "differ is 0.9" in refused.stderr
