"""What a search may try, what it tries, and which trial wins: told before any training, and the same every time."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniml.errors import InputError, ModelFolderError, TrainingError
from miniml.evaluation.evaluate import evaluate_model
from miniml.model import manifest
from miniml.search.failure import read_failure, write_failure
from miniml.search.picking import pick
from miniml.search.plan import with_trial
from miniml.search.selection_uncertainty import expected_best, selection_uncertainty
from miniml.search.trial import fine_tune_trial
from miniml.search.trial_result import TrialResult, choose, read_trial_result
from miniml.settings.search import MAX_TRIALS, SearchSettings
from miniml.settings.space import KINDS
from miniml.settings.training import TrainingSettings
from miniml.train_step.report import write_trial_report
from miniml.training.fine_tune import fine_tune
from tests.conftest import TRAINING
from tests.page import Page

RATES = '{"learning_rate": {"low": 1e-5, "high": 1e-3, "log": true}}'


def planned(space: Any, **settings: Any) -> list[dict[str, Any]]:
    return SearchSettings(space=json.dumps(space), **settings).plan()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("", "is no JSON"),
        ("[" * 4000, "is no JSON"),
        ("[]", "names nothing to search"),
        ("{}", "names nothing to search"),
        ('{"momentum": [1]}', "space names 'momentum', which is no argument of the training. It may name: model_id, "),
        ('{"dropout": []}', "space gives dropout as []; it must be a list of at least one value, or a range"),
        ('{"dropout": 0.1}', "space gives dropout as 0.1; it must be a list"),
        ('{"dropout": [0], "dropout": [0.1]}', "space names 'dropout' twice"),
        ('{"dropout": [NaN]}', "space gives dropout the value NaN; it takes numbers"),
        ('{"dropout": ["0.1"]}', 'space gives dropout the value "0.1"; it takes numbers'),
        ('{"batch_size": [1.5]}', "space gives batch_size the value 1.5; it takes whole numbers"),
        ('{"batch_size": [true]}', "space gives batch_size the value true; it takes whole numbers"),
        ('{"device": [0]}', "space gives device the value 0; it takes strings"),
        ('{"device": {"low": 0, "high": 1}}', "space gives device a range, but its values are no numbers"),
        ('{"dropout": {"low": 0}}', "space gives dropout a range without 'high'"),
        ('{"dropout": {"low": 0.2, "high": 0.1}}', "space gives dropout low 0.2, above its high 0.1. Swap them"),
        ('{"dropout": {"low": 0, "high": 0.1, "log": true}}', "a logarithm needs it above 0"),
        ('{"dropout": {"low": 0, "high": 0.1, "log": 1}}', "space gives dropout log 1; it is true or false"),
        ('{"dropout": {"low": 0, "high": 0.4, "step": 0.1}}', "'step'; a range has low, high and log"),
        ('{"dropout": [0, 2]}', "(dropout 2) cannot be trained: dropout is 2.0; it must be at least 0 and below 1"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_searched_is_refused_with_its_fault(space: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        SearchSettings(space=space).plan()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": "bayesian"}, "sampling 'bayesian' is not known"),
        ({"pick_by": "f1"}, "pick_by 'f1' is not known"),
        ({"trials": 0}, "trials is 0"),
        ({"trials": 65}, "trials is 65; at most 64"),
        ({"sampling": "grid", "space": RATES}, "space gives learning_rate a range, of which a grid cannot"),
        (
            {"sampling": "grid", "space": json.dumps({"seed": [*range(13)], "epochs": [1, 2, 3, 4, 5]})},
            "space has 65 combinations; at most 64 trials",
        ),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        SearchSettings(**settings)


def test_a_grid_is_every_combination_once_in_the_order_as_written() -> None:
    space = {"batch_size": [16, 32.0, 16], "dropout": [0, 0.1]}
    assert planned(space, sampling="grid", trials=1) == [
        {"batch_size": 16, "dropout": 0.0},
        {"batch_size": 16, "dropout": 0.1},
        {"batch_size": 32, "dropout": 0.0},
        {"batch_size": 32, "dropout": 0.1},
    ]


def test_a_space_of_few_trials_gives_them_all_and_no_more() -> None:
    found = planned({"batch_size": [16, 32], "dropout": [0, 0.1]}, trials=MAX_TRIALS)
    assert sorted((trial["batch_size"], trial["dropout"]) for trial in found) == [
        (16, 0.0), (16, 0.1), (32, 0.0), (32, 0.1),
    ]  # fmt: skip


def test_a_logarithmic_range_is_drawn_from_as_often_in_each_of_its_decades() -> None:
    rates = [trial["learning_rate"] for trial in SearchSettings(space=RATES, trials=64).plan()]
    assert 20 <= sum(rate < 1e-4 for rate in rates) <= 44


NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "learning_rate": st.floats(1e-7, 1.0),
    "dropout": st.floats(0.0, 0.99),
    "batch_size": st.integers(1, 512),
    "seed": st.integers(0, 2**40),
}
WORDS: dict[str, st.SearchStrategy[Any]] = {
    "truncation_side": st.sampled_from(["left", "right"]),
    "precision": st.sampled_from(["auto", "fp32"]),
}


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    space: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from([*NUMBERS, *WORDS]), min_size=1, max_size=4, unique=True)):
        values: list[Any] = draw(st.lists({**NUMBERS, **WORDS}[name], min_size=1, max_size=4))
        low, high = min(values), max(values)
        is_range = name in NUMBERS and draw(st.booleans())
        space[name] = (
            {"low": low, "high": high, "log": low > 0 and draw(st.booleans())} if is_range else values
        )
    return space


@settings(deadline=None)
@given(space=spaces(), trials=st.integers(1, 12), seed=st.integers(0, 1000))
def test_whatever_is_drawn_differs_lies_in_the_space_and_is_drawn_again_by_the_same_seed(
    space: dict[str, Any], trials: int, seed: int
) -> None:
    found = planned(space, trials=trials, seed=seed)
    assert 1 <= len(found) <= trials
    assert len({json.dumps(trial) for trial in found}) == len(found)
    for trial in found:
        assert list(trial) == list(space)
        for name, value in trial.items():
            assert type(value) is KINDS[name]
            entry = space[name]
            assert entry["low"] <= value <= entry["high"] if isinstance(entry, dict) else value in entry
        assert with_trial(TrainingSettings(), json.dumps(trial)) == replace(TrainingSettings(), **trial)
    # More of them begin with the same ones, which the cache then has.
    assert planned(space, trials=trials + 3, seed=seed)[: len(found)] == found


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*KINDS, "low", "high", "log"]), inner, max_size=3)
    ),
)


@settings(deadline=None)
@given(st.text(max_size=200) | JSON.map(json.dumps))
def test_any_text_is_a_space_or_is_refused_in_a_sentence(text: str) -> None:
    try:
        assert SearchSettings(space=text).plan()
    except InputError as error:
        assert str(error).startswith("space")


def test_a_trial_names_only_what_the_training_takes() -> None:
    assert with_trial(TrainingSettings(seed=7), "") == TrainingSettings(seed=7)
    with pytest.raises(InputError, match="'momentum', which is no argument"):
        with_trial(TrainingSettings(), '{"momentum": 0.9}')


def trial_result(number: int, accuracy: float, loss: float, failure: str = "") -> TrialResult:
    metrics = {} if failure else {"validation_accuracy": accuracy, "validation_loss": loss}
    return TrialResult(number, {"learning_rate": number / 100}, Path("model"), metrics, failure=failure)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=6).filter(
        lambda trials: any(works for *_, works in trials)
    ),
    st.randoms(),
)
def test_the_best_on_validation_wins_then_the_least_loss_then_the_earlier_one(
    trials: list[tuple[int, int, bool]], random: Any
) -> None:
    results = [
        trial_result(number, right / 3, loss / 3, "" if works else "it diverged")
        for number, (right, loss, works) in enumerate(trials, 1)
    ]
    models = [each for each in results if not each.failure]
    random.shuffle(results)
    by_accuracy, by_loss = choose(results, "accuracy"), choose(results, "loss")
    loss = {each.number: each.metrics["validation_loss"] for each in models}
    accuracy = {each.number: each.metrics["validation_accuracy"] for each in models}
    assert by_accuracy.number == min(accuracy, key=lambda each: (-accuracy[each], loss[each], each))
    assert by_loss.number == min(loss, key=lambda each: (loss[each], each))


def test_a_loss_that_is_no_number_never_wins() -> None:
    assert choose([trial_result(1, 0.9, math.nan), trial_result(2, 0.5, 0.7)], "accuracy").number == 2


def test_where_no_trial_came_to_a_model_the_first_ones_reason_is_given() -> None:
    failed = [trial_result(2, 0, 0, "it diverged later"), trial_result(1, 0, 0, "it diverged")]
    with pytest.raises(InputError, match=r"no trial of 2 .* Trial 1 \(learning_rate 0.01\): it diverged$"):
        choose(failed, "loss")


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (10, 1.53875)])
def test_the_best_of_many_is_expected_above_their_mean(count: int, expected: float) -> None:
    assert expected_best(count) == pytest.approx(expected, abs=1e-4)


def test_only_trials_within_chance_of_the_winner_are_its_rivals() -> None:
    doubt = selection_uncertainty(0.9, [0.89, 0.87, 0.6], rows=400)
    assert doubt.standard_error == pytest.approx(0.015, abs=0.001)
    assert doubt.rivals == 2
    assert doubt.optimism == pytest.approx(1.029 * doubt.standard_error, abs=1e-4)
    assert selection_uncertainty(0.9, [0.89, 0.87, 0.6], rows=40_000).rivals == 0
    # That every row was answered rightly does not make it sure.
    assert selection_uncertainty(1.0, [], rows=20).standard_error > 0.02


PLAN = SearchSettings(space='{"learning_rate": [0.01, 1e30]}', sampling="grid")
"""The trials of which `model_dir` is the first, and `failed` the second."""


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    write_failure(tmp_path / "failed", TrainingSettings(learning_rate=1e30), "the training diverged")
    return tmp_path / "failed"


def test_the_winner_is_kept_as_it_was_signed_whatever_order_the_models_come_in(
    model_dir: Path, failed: Path, tmp_path: Path
) -> None:
    result = pick([failed, model_dir], PLAN, tmp_path / "picked", tmp_path / "report.html")
    assert [each.number for each in result.trial_results] == [1, 2]
    assert result.winner.number == 1
    assert result.winner.seconds > 0
    assert manifest.verify(tmp_path / "picked").digest == manifest.read(model_dir).digest == result.digest
    assert result.validation_rows == 24
    result.save(tmp_path / "search.json")
    saved = json.loads((tmp_path / "search.json").read_text())
    assert [trial["won"] for trial in saved["trials"]] == [True, False]
    assert saved["trials"][1]["failure"] == "the training diverged"
    assert (saved["winner"], saved["failed_trials"]) == (1, 1)


def test_a_regression_which_has_no_accuracy_is_picked_by_its_loss(failed: Path, tmp_path: Path) -> None:
    data = {"rows": {"validation": 24}, "source": "reviews.csv"}
    folder = tmp_path / "model"
    folder.mkdir()
    arguments = {"training": {**vars(TrainingSettings()), "learning_rate": 0.01}}
    manifest.sign(folder, data=data, metrics={"validation_loss": 0.5}, arguments=arguments, versions={})
    result = pick([folder, failed], PLAN, tmp_path / "picked", tmp_path / "report.html")
    assert (result.picked_by, result.uncertainty, result.winner.number) == ("loss", None, 1)
    assert "mean loss, which does not tell by itself" in (tmp_path / "report.html").read_text()


def test_a_model_of_another_search_is_refused(model_dir: Path, failed: Path) -> None:
    for folder in (model_dir, failed):
        with pytest.raises(ModelFolderError, match="none of this search's 1 trials"):
            read_trial_result(folder, [{"learning_rate": 0.5}])


def test_a_model_that_was_changed_since_it_was_signed_does_not_win(
    model_dir: Path, failed: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_dir, tmp_path / "changed")
    with (tmp_path / "changed" / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ModelFolderError, match=r"config\.json has SHA-256"):
        pick([tmp_path / "changed", failed], PLAN, tmp_path / "picked", tmp_path / "report.html")
    assert not (tmp_path / "picked").exists()


def test_a_trial_that_diverges_says_so_and_is_no_model(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    settings = TrainingSettings(
        model_id=str(encoder), checkpoints=str(tmp_path / "kept"), checkpoint_interval=0, **TRAINING
    )
    result = fine_tune_trial(dataset_dir, tmp_path / "model", settings, '{"learning_rate": 1e30}')
    assert (result.digest, result.metrics) == ("", {})
    failure = read_failure(tmp_path / "model")
    assert failure
    assert "the training diverged" in failure.reason
    assert failure.training == vars(replace(settings, learning_rate=1e30))
    with pytest.raises(ModelFolderError, match=r"has no miniml\.json"):
        evaluate_model(tmp_path / "model", dataset_dir)
    write_trial_report(tmp_path / "model", tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert failure.reason in page.words
    assert "1e+30" in page.words
    # From a checkpoint it would only diverge again.
    assert not list((tmp_path / "kept").rglob("step-*"))


def test_what_another_machine_could_train_fails_a_trial_as_any_training(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    settings = TrainingSettings(model_id=str(encoder), **TRAINING)
    with pytest.raises(InputError, match="device 'cuda:9' is not on this machine"):
        fine_tune_trial(dataset_dir, tmp_path / "model", settings, '{"device": "cuda:9"}')
    with pytest.raises(TrainingError, match="frozen_layers is 9"):  # Outside of a search.
        fine_tune(dataset_dir, tmp_path / "model", replace(settings, frozen_layers=9))
    assert not (tmp_path / "model").exists()
