"""A training that has a time limit plans what fits, keeps to it, and can be repeated without a clock."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from miniml.errors import InputError, TrainingError
from miniml.files.digests import sha256
from miniml.model import manifest
from miniml.model.history import HISTORY_NAME
from miniml.settings.training import TrainingSettings
from miniml.train_step.report import write_trial_report
from miniml.training import course, time_limit
from miniml.training.fine_tune import fine_tune
from miniml.training.time_limit import MARGIN, Measured, Plan, TimeLimit, plan
from miniml.training.trainer import DivergedError
from tests.conftest import TRAINING
from tests.killed import happening
from tests.page import Page

ENDLESS = 10_000_000

STEPS = st.lists(st.integers(1, 4096), min_size=1, max_size=40)
COSTS = st.builds(
    lambda fixed, per_token, validation, ending: Measured(
        [(1, fixed + per_token), (4096, fixed + 4096 * per_token)], validation, ending
    ),
    st.floats(0.001, 2),
    st.floats(0.00001, 0.01),
    st.floats(0, 100),
    st.floats(0, 100),
)


def planned(tokens: list[int], asked: int, evaluations: int, costs: Measured, left: float) -> Plan | None:
    """None where not a single step fits."""
    try:
        return plan(np.array(tokens), 16, asked, evaluations, costs, left)
    except TrainingError:
        return None


@settings(deadline=None)
@given(STEPS, st.integers(1, 500), st.integers(1, 9), COSTS, st.floats(-10, 2000))
def test_what_is_planned_ends_in_time_and_nothing_more_would(
    tokens: list[int], asked: int, evaluations: int, costs: Measured, left: float
) -> None:
    def seconds(steps: int, evaluations: int) -> float:
        learning = costs.of_steps(np.resize(tokens, steps)).sum()
        return float(learning + evaluations * costs.validation) * (1 + MARGIN) + costs.ending

    made = planned(tokens, asked, evaluations, costs, left)
    if made is None:
        assert seconds(1, 1) > left - 1e-6
        return
    assert 1 <= made.steps <= asked
    assert 1 <= made.evaluations <= evaluations
    assert seconds(made.steps, made.evaluations) <= left + 1e-6
    if made.steps < asked:
        assert seconds(made.steps + 1, made.evaluations) > left - 1e-6
    if seconds(asked, evaluations) <= left - 1e-6:
        assert made.whole


@settings(deadline=None)
@given(STEPS, st.integers(1, 500), st.integers(1, 9), COSTS, st.floats(0, 2000), st.floats(0, 500))
def test_more_time_is_never_less_validation_nor_with_as_much_of_it_fewer_steps(
    tokens: list[int], asked: int, evaluations: int, costs: Measured, left: float, more: float
) -> None:
    one = planned(tokens, asked, evaluations, costs, left)
    other = planned(tokens, asked, evaluations, costs, left + more)
    assume(one is not None)
    assert one and other
    assert other.evaluations >= one.evaluations
    assert other.evaluations > one.evaluations or other.steps >= one.steps


def test_validation_gives_way_to_steps_where_it_would_take_most_of_the_time() -> None:
    costs = Measured([(100, 1.0)], validation=10.0, ending=0.0)
    made = planned([100], 10_000, 9, costs, 111.0)
    assert made and (made.evaluations, made.steps) == (2, 80)
    made = planned([100], 10_000, 9, costs, 23.0)
    assert made and (made.evaluations, made.steps) == (1, 10)


def test_what_comes_before_the_first_step_is_planned_for_too() -> None:
    costs = Measured([(100, 1.0)], validation=0.0, ending=0.0)

    def fitting(left: float) -> int:
        tokens = np.array([100])
        return plan(tokens, 16, 10_000, 1, costs, left, beginning=lambda steps: min(20, steps / 10)).steps

    assert fitting(1.1 * 110.5) == 100
    assert fitting(1.1 * 1020.5) == 1000
    assert plan(np.array([100]), 16, 9, 1, costs, 99.0, lambda _: 5.0).samples_per_second == pytest.approx(16)


def test_steps_of_more_tokens_take_more_time() -> None:
    costs = Measured([(100, 1.0), (200, 3.0)], validation=0.0, ending=0.0)
    assert costs.of_steps(np.array([50, 100, 150, 200, 400])).tolist() == [1, 1, 2, 3, 3]
    assert Measured([(100, 2.0)], 0.0, 0.0).of_steps(np.array([50])).tolist() == [1]


def test_where_no_step_fits_it_is_said_what_takes_the_time() -> None:
    with pytest.raises(
        TrainingError,
        match=r"no time for a single step: 9 s of it are left. An evaluation takes 5.0 s, saving the model 4.0 s, and "
        r"a step 1.0 s. Give more minutes",
    ):
        plan(np.array([100]), 16, 10, 1, Measured([(100, 1.0)], 5.0, 4.0), 9.0)


@pytest.mark.parametrize("minutes", [-1.0, float("nan"), float("inf")])
def test_a_limit_that_is_no_number_of_minutes_is_refused(minutes: float) -> None:
    with pytest.raises(InputError, match=r"time_limit is .*; it is a number of minutes, or 0 for none"):
        TrainingSettings(time_limit=minutes)


class Clock:
    """Is further by a tick whenever somebody looks at it: no machine is faster than another."""

    def __init__(self) -> None:
        self.tick, self.seconds = 0.25, 0.0

    def __call__(self) -> float:
        self.seconds += self.tick
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time_limit, "clock", made)
    return made


@pytest.fixture
def train(dataset_dir: Path, encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    def trained(folder: str, **settings: Any) -> Path:
        given = {
            "model_id": str(encoder),
            **TRAINING,
            "dropout": 0.1,
            "checkpoints": str(tmp_path / "kept"),
            **settings,
        }
        fine_tune(dataset_dir, tmp_path / folder, TrainingSettings(**given))
        return tmp_path / folder

    return trained


def weights(model_dir: Path) -> str:
    return sha256(model_dir / "model.safetensors")


def used(model_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = manifest.read(model_dir).arguments["used"]
    return found


def test_a_training_that_does_not_fit_is_cut_to_what_does_and_is_repeated_by_what_it_says(
    train: Any, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    limited = train("limited", iterations=ENDLESS, evaluations=3, time_limit=0.5)
    output, about = capsys.readouterr().out, used(limited)
    steps = about["planned_steps"]
    assert f" samples/s: {steps:,} of 10,000,000 steps fit into 0.5 min" in output
    assert f"to repeat it exactly: --iterations {steps} --evaluations 3 --time-limit 0" in output
    assert about["repeated_by"] == f"--iterations {steps} --evaluations 3 --time-limit 0"
    assert manifest.read(limited).metrics["steps"] == steps < 200
    rates = [point["learning_rate"] for point in history(limited) if "learning_rate" in point]
    assert rates[-1] < 0.1 * max(rates)  # The schedule is that of the planned steps.
    again = train("again", iterations=steps, evaluations=3)
    assert weights(again) == weights(limited)
    assert timeless(again) == timeless(limited)


def history(model_dir: Path) -> list[dict[str, float]]:
    points: list[dict[str, float]] = json.loads((model_dir / HISTORY_NAME).read_text())
    return points


def timeless(model_dir: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in point.items() if "second" not in name and "runtime" not in name}
        for point in history(model_dir)
    ]


@pytest.mark.parametrize(
    "more", [{}, {"lora_rank": 2}, {"precision": "fp32", "gradient_accumulation": 2}], ids=str
)
def test_a_training_that_fits_is_the_very_one_without_a_limit(
    more: dict[str, Any], train: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    free = train("free", iterations=8, **more)
    limited = train("limited", iterations=8, time_limit=600, **more)
    assert "samples/s: all of the 8 steps fit into 600 min" in capsys.readouterr().out
    assert weights(limited) == weights(free)
    assert timeless(limited) == timeless(free)
    assert used(limited)["planned_steps"] == 8


def test_one_that_is_slower_than_it_was_measured_ends_in_time_and_is_repeated_with_its_last_step(
    train: Any, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose_an_hour() -> None:
        clock.seconds += 3600

    with happening(12, lose_an_hour):
        limited = train("limited", iterations=30, evaluations=2, time_limit=1, best_by="last")
    output, about = capsys.readouterr().out, used(limited)
    assert "ending at step 12 of 30: the time limit is reached, as steps took longer than planned" in output
    assert "to repeat it exactly: --iterations 30 --evaluations 2 --stop-at-step 12 --time-limit 0" in output
    assert (about["planned_steps"], about["ended_at_step"]) == (30, 12)
    assert manifest.read(limited).metrics["kept_step"] == 12
    write_trial_report(limited, limited.parent / "report.html")
    words = " ".join(Page(limited.parent / "report.html").words.split())
    assert "after step 12 of 30" in words
    assert about["repeated_by"] in words
    again = train("again", iterations=30, evaluations=2, stop_at_step=12, best_by="last")
    assert "ending at step 12 of 30: stop_at_step says so" in capsys.readouterr().out
    assert weights(again) == weights(limited)
    assert timeless(again) == timeless(limited)


def test_one_that_was_killed_goes_on_by_its_first_plan_however_fast_it_is_now(
    train: Any, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    given = {"iterations": ENDLESS, "time_limit": 0.3, "checkpoint_interval": 0}
    with happening(12, end), pytest.raises(KeyboardInterrupt):
        train("limited", **given)
    [steps] = re.findall(r"([\d,]+) of 10,000,000 steps fit into 0.3 min", capsys.readouterr().out)
    clock.tick /= 10
    limited = train("limited", **given)
    output = capsys.readouterr().out
    assert f"continuing from step 11 of {steps} " in output
    assert "measuring how fast steps are" not in output
    assert used(limited)["planned_steps"] == int(steps) > 12
    assert weights(limited) == weights(train("again", iterations=int(steps)))


def test_the_time_before_a_kill_counts_as_far_as_it_led_to_a_checkpoint(clock: Clock, tmp_path: Path) -> None:
    clock.tick = 1
    before = TimeLimit(1)
    before.keep_to(Plan(20, 1, 20, 1, 8.0, 20.0, 5.0))
    clock.seconds += 29
    before.save(tmp_path)
    clock.seconds += 3600
    after = TimeLimit(1)
    assert after.resume(tmp_path)
    assert after.plan == before.plan
    assert after.spent == 31
    assert not after.is_over
    clock.seconds += 25
    assert after.is_over


def test_in_fp32_for_want_of_bf16_it_plans_anew_for_the_time_that_is_left(
    train: Any, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge() -> None:
        said.append(capsys.readouterr().out)
        if "bf16" in said[-1].rpartition("training /")[2]:
            raise DivergedError("the loss is nan", "")

    said: list[str] = []
    monkeypatch.setattr(course, "computes_in_bf16", lambda *_: True)
    with happening(12, diverge):
        limited = train("limited", iterations=ENDLESS, time_limit=0.5)
    output = "".join(said) + capsys.readouterr().out
    first, second = re.findall(r"(\d+) of 10,000,000 steps fit into 0.5 min", output)
    assert int(second) < int(first)
    assert used(limited)["planned_steps"] == int(second)
    assert used(limited)["precision"] == "fp32"


def test_a_stop_after_the_last_step_is_told_of(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    train("model", iterations=4, stop_at_step=9)
    assert (
        "stop_at_step 9 comes after the last of the 4 steps: training to the end" in capsys.readouterr().out
    )
