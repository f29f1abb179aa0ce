"""A search shares its minutes out, and ends the trials that fall behind; the best one is never among them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainerControl, TrainerState

from miniml.errors import InputError
from miniml.model import manifest
from miniml.search.failure import read_failure
from miniml.search.plan import (
    SearchContext,
    decode_trial,
    encode_trial,
    on_its_own,
    search_context,
    with_trial,
)
from miniml.search.scoreboard import Entry, scoreboard_of
from miniml.search.successive_halving import RUNGS, SuccessiveHalvingCallback, is_promising, share_of_time
from miniml.search.trial import fine_tune_trial
from miniml.search.trial_result import choose, read_trial_result
from miniml.settings.search import SearchSettings
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune
from tests.conftest import TRAINING
from tests.s3_server import WRITER, S3Server

FIGURES = st.lists(st.integers(0, 9).map(float), max_size=12)


class Board:
    """A scoreboard in memory."""

    def __init__(self) -> None:
        self.there: dict[str, Entry] = {}

    def entries(self) -> dict[str, Entry]:
        return json.loads(json.dumps(self.there))  # type: ignore[no-any-return]

    def write(self, name: str, entry: Entry) -> None:
        self.there[name] = json.loads(json.dumps(entry))


CONTEXT = SearchContext(space="0" * 16, pick_by="accuracy", stop_early=True)


def steps_of(
    name: str, curve: Sequence[float], board: Board, figure: str = "accuracy", steps: int = 60
) -> int:
    """How many of its steps a trial makes that would have `curve` at each quarter of them."""
    halving = SuccessiveHalvingCallback(name, CONTEXT, figure, board)
    state, control = TrainerState(max_steps=steps), TrainerControl()
    halving.on_train_begin(None, state, control)  # type: ignore[arg-type]
    for quarter, value in enumerate(curve, 1):
        state.global_step = round(steps * quarter / len(curve))
        halving.on_evaluate(None, state, control, metrics={f"eval_{figure}": value})  # type: ignore[arg-type]
        if control.should_training_stop:
            break
    return state.global_step


@given(FIGURES, st.integers(0, 9).map(float))
def test_the_first_the_best_and_its_equals_pass_and_the_worse_half_does_not(
    others: list[float], mine: float
) -> None:
    passes = is_promising(mine, others, more=True)
    better = sum(other > mine for other in others)
    assert passes is (better < math.ceil((len(others) + 1) / 2))
    assert passes or max(others) > mine
    assert passes is is_promising(-mine, [-other for other in others], more=False)


def test_trials_that_fall_behind_are_ended_at_a_quarter_or_half_and_the_best_is_not() -> None:
    board = Board()
    curves = {
        "steady": [0.70, 0.75, 0.78, 0.80],
        "hopeless": [0.50, 0.50, 0.50, 0.50],
        "best": [0.75, 0.82, 0.85, 0.88],
        "early": [0.80, 0.70, 0.70, 0.70],
        "as good": [0.80, 0.82, 0.84, 0.86],
        "late": [0.60, 0.75, 0.85, 0.90],
    }
    taken = {name: steps_of(name, curve, board) for name, curve in curves.items()}
    assert taken == {"steady": 60, "hopeless": 15, "best": 60, "early": 30, "as good": 60, "late": 15}
    assert sum(taken.values()) == 240 < 6 * 60


def test_of_losses_the_smaller_half_goes_on() -> None:
    board = Board()
    assert steps_of("one", [0.5, 0.4, 0.3, 0.3], board, figure="loss") == 60
    assert steps_of("worse", [0.6, 0.4, 0.3, 0.2], board, figure="loss") == 15
    assert steps_of("better", [0.4, 0.3, 0.2, 0.2], board, figure="loss") == 60


def test_a_trial_is_not_its_own_rival_when_it_is_made_again() -> None:
    board = Board()
    curve = [0.8, 0.8, 0.8, 0.8]
    assert steps_of("one", curve, board) == steps_of("one", [0.7] * 4, board) == 60


def test_a_trial_that_goes_on_from_a_checkpoint_is_not_judged_again_for_what_it_has_passed() -> None:
    board = Board()
    steps_of("one", [0.9] * 4, board)
    halving = SuccessiveHalvingCallback("two", CONTEXT, "accuracy", board)
    state, control = TrainerState(max_steps=60, global_step=20), TrainerControl()
    halving.on_train_begin(None, state, control)  # type: ignore[arg-type]
    state.global_step = 25
    halving.on_evaluate(None, state, control, metrics={"eval_accuracy": 0.1})  # type: ignore[arg-type]
    assert not control.should_training_stop
    state.global_step = 30
    halving.on_evaluate(None, state, control, metrics={"eval_accuracy": 0.1})  # type: ignore[arg-type]
    assert control.should_training_stop


@pytest.mark.parametrize("trials", [4, 8, 16])
def test_on_curves_as_trainings_have_them_a_third_is_saved_and_the_winner_is_as_good(trials: int) -> None:
    """Made up: most trials are near the best, a quarter are hopeless; early figures lag behind and waver, and all are
    measured on 450 validation rows."""
    draw = np.random.default_rng(0)
    cost, with_halving, to_the_end = [], [], []
    for _ in range(400):
        worth = np.where(
            draw.random(trials) < 0.25,
            draw.uniform(0.5, 0.7, trials),
            0.85 - np.abs(draw.normal(0, 0.03, trials)),
        )
        found: dict[int, float] = {}
        rungs: dict[float, list[float]] = {rung: [] for rung in RUNGS}
        for number in range(trials):
            for rung in RUNGS:
                early = worth[number] - 0.05 * (1 - rung) + draw.normal(0, 0.02 * (1 - rung))
                seen = draw.binomial(450, early) / 450
                goes_on = is_promising(seen, rungs[rung], more=True)
                rungs[rung].append(seen)
                if not goes_on:
                    cost.append(rung)
                    break
            else:
                cost.append(1.0)
                found[number] = draw.binomial(450, worth[number]) / 450
        with_halving.append(worth[max(found, key=found.__getitem__)])
        to_the_end.append(worth[np.argmax(draw.binomial(450, worth))])
    assert np.mean(cost) < 0.73
    assert np.mean(with_halving) == pytest.approx(np.mean(to_the_end), abs=0.002)


TIMED = replace(CONTEXT, minutes=60.0, trials=8, run="now")


@settings(deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=20), st.booleans(), st.floats(0.1, 600))
def test_trials_one_after_another_never_take_more_than_the_search_has(
    shares: list[float], stop_early: bool, minutes: float
) -> None:
    """Each takes some part of what it is given."""
    context = replace(TIMED, trials=len(shares), stop_early=stop_early, minutes=minutes)
    board, given = Board(), []
    for number, share in enumerate(shares):
        halving = SuccessiveHalvingCallback(str(number), context, "accuracy", board)
        given.append(60 * halving.minutes())
        assert 60 * SuccessiveHalvingCallback(
            str(number), context, "accuracy", board
        ).minutes() == pytest.approx(given[-1])
        halving.took(share * given[-1])
    taken = [share * part for share, part in zip(shares, given, strict=True)]
    assert sum(taken) <= 60 * minutes * (1 + 1e-9)
    if not stop_early:
        assert all(part >= 60 * minutes / len(shares) * (1 - 1e-9) for part in given)


def test_where_trials_train_beside_each_other_all_get_the_same() -> None:
    beside = replace(TIMED, at_once=3)
    assert [share_of_time(beside, [{"seconds": 900.0}] * others) for others in range(8)] == [60 * 60 / 3] * 8


def test_a_trial_that_is_part_of_a_search_looks_at_validation_at_each_quarter() -> None:
    settings = TrainingSettings(evaluations=2, time_limit=60)
    trial = encode_trial({"learning_rate": 1e-4}, TIMED)
    assert decode_trial(trial) == ({"learning_rate": 1e-4}, TIMED)
    assert with_trial(settings, trial) == replace(settings, learning_rate=1e-4, evaluations=4)
    assert with_trial(replace(settings, evaluations=9), trial).evaluations == 9
    assert with_trial(settings, encode_trial({"evaluations": 1}, TIMED)).evaluations == 1
    assert on_its_own(settings, trial).time_limit == 60 / 8
    assert on_its_own(settings, "") == settings
    assert encode_trial({"learning_rate": 1e-4}, None) == '{"learning_rate": 0.0001}'


def test_more_trials_begin_with_the_very_same_ones_unless_they_share_out_minutes() -> None:
    def contexts(minutes: float) -> list[SearchContext | None]:
        return [search_context(SearchSettings(trials=trials), minutes, 1, "run") for trials in (4, 8)]

    assert contexts(0.0)[0] == contexts(0.0)[1] is not None
    assert [one and one.trials for one in contexts(10.0)] == [4, 8]
    assert search_context(SearchSettings(stop_early=False), 0.0, 1, "run") is None


def test_the_limit_is_the_searchs_and_no_trials() -> None:
    with pytest.raises(InputError, match="space names 'time_limit', which is of the whole search"):
        SearchSettings(space='{"time_limit": [1, 2]}')


@pytest.fixture
def trial(
    dataset_dir: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Trains a trial into a folder of its name."""
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path / "cache"))

    def trained(name: str, context: SearchContext, values: dict[str, Any], **settings: Any) -> Path:
        base = TrainingSettings(**{"model_id": str(encoder), **TRAINING, "precision": "fp32", **settings})
        fine_tune_trial(dataset_dir, tmp_path / name, base, encode_trial(values, context))
        return tmp_path / name

    return trained


def test_a_hopeless_training_is_stopped_and_is_a_model_like_any_other_that_can_be_made_again(
    trial: Any, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = [{"learning_rate": 1e-2}, {"learning_rate": 1e-7}, {"learning_rate": 5e-3}]
    folders = [trial(str(number), CONTEXT, values) for number, values in enumerate(plan)]
    assert "is not among the better half of the 2 trials that have come so far" in capsys.readouterr().out
    results = [read_trial_result(folder, plan) for folder in folders]
    assert results[0].stopped == ""
    # at a quarter both may be as good by chance
    assert results[1].stopped in (
        "step 15 of 60",
        "step 30 of 60",
    )
    assert choose(results, "accuracy").trial != plan[1]
    stopped = manifest.verify(folders[1])
    assert stopped.metrics["steps"] == results[1].steps
    again = TrainingSettings(**{**stopped.arguments["training"], "stop_at_step": results[1].steps})
    fine_tune(dataset_dir, tmp_path / "again", again)
    assert manifest.read(tmp_path / "again").files["model.safetensors"] == stopped.files["model.safetensors"]


def test_a_trial_for_which_no_time_is_left_says_so_and_the_search_goes_on(trial: Any) -> None:
    context = replace(TIMED, minutes=1e-4)
    failure = read_failure(trial("late", context, {"learning_rate": 1e-2}, time_limit=1e-4))
    assert failure and "time_limit leaves no time for a single step" in failure.reason


def test_a_search_in_a_cluster_has_its_scoreboard_beside_the_models(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    if not s3_server.client().bucket_exists("trials"):
        s3_server.client().make_bucket("trials")
    one, other = (scoreboard_of("search", "", "s3://trials/v2/model") for _ in range(2))
    assert one and other
    one.write("a", {"rungs": {"0.25": 0.5}})
    other.write("b", {"seconds": 3.0})
    assert one.entries() == other.entries() == {"a": {"rungs": {"0.25": 0.5}}, "b": {"seconds": 3.0}}
    lost = scoreboard_of("search", "", "s3://no-such-bucket/model")
    assert lost and lost.entries() is None
    assert "this trial does not see the others: " in capsys.readouterr().out


def test_where_no_trial_finds_the_others_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert scoreboard_of("search", "", "minio://mlpipeline/v2/model") is None
    assert "trials do not see each other" in capsys.readouterr().out
    # It cannot know what they take, and keeps to an even share.
    assert SuccessiveHalvingCallback("a", TIMED, "accuracy", None).minutes() == pytest.approx(60 / 8)
