"""The page of a search, on any screen: all trials, what each argument did, and how far chance may have picked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miniml.search.report import write_report
from miniml.search.selection_uncertainty import selection_uncertainty
from miniml.search.trial_result import SearchResult, TrialResult, choose
from miniml.settings.search import SearchSettings
from miniml.settings.training import TrainingSettings
from tests.browser import Browser, require_whole
from tests.page import Page

SPACE = """{"learning_rate": {"low": 1e-5, "high": 1e-3, "log": true}, "batch_size": [16, 32], "epochs": [1],
            "truncation_side": ["left", "right"]}"""
HOSTILE = "<script>alert(1)</script>$\\frac{1"
REASON = "the training diverged: the loss is nan at step 12. Lower learning_rate (now 0.0001)."


def written(path: Path, trials: int = 8, space: str = SPACE, model_id: str = "owner/name") -> Path:
    """The page of a search whose third trial came to nothing, and whose fourth was stopped."""
    settings = SearchSettings(space=space, trials=trials)
    results = []
    for number, trial in enumerate(settings.plan(), 1):
        metrics = {"validation_accuracy": (360 + number) / 450, "validation_loss": 0.5 - number / 1000}
        metrics["train_seconds"] = 100.0 + number
        planned = 1920 // trial.get("batch_size", 32)
        steps = planned // 4 if number == 4 else planned
        made = ({}, REASON) if number == 3 else (metrics, "", steps, planned)
        results.append(TrialResult(number, trial, path, *made))
    winner = choose(results, "accuracy")
    first, *others = [one.metrics["validation_accuracy"] for one in [winner, *results] if one.metrics]
    others.remove(first)
    doubt = selection_uncertainty(first, others, 450)
    result = SearchResult(results, winner, "accuracy", "d" * 64, "reviews.csv", 450, doubt)
    write_report(result, settings, vars(TrainingSettings(model_id=model_id)), path)
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("search") / "report.html")


def test_the_page_names_every_trial_the_winner_and_the_doubt(report: Path) -> None:
    page = Page(report)
    assert page.tags.count("svg") == 3  # epochs are the same in every trial
    assert all(address.startswith("#") for address in page.addresses)
    assert "script" not in page.tags
    words = " ".join(page.words.split())
    for sentences in (
        "validation accuracy of the winner, trial 8 of 8",
        "on 450 validation rows",
        "standard error of 1.8 points",
        "6 of the other 6 models are so close that chance alone could have put them in this order",
        "The best of 7 flatters: were they all equally good",
        "No trial has seen the test",
        "· the winner",
        "· stopped at step 30 of 120",
        "compared at a quarter and at half of their own",
        "Others were ahead of it at that point, or its time was over",
        REASON,
    ):
        assert sentences.lower() in words.lower()


def test_one_trial_is_neither_compared_nor_the_best_of_many(tmp_path: Path) -> None:
    page = Page(written(tmp_path / "report.html", trials=1, space='{"model_id": ["owner/name"]}'))
    assert "flatters" not in page.words
    assert "of the other" not in page.words
    assert "svg" not in page.tags


def test_hostile_names_are_shown_and_not_run(tmp_path: Path) -> None:
    space = json.dumps({"model_id": [HOSTILE, "owner/name"], "seed": [1, 2]})
    page = Page(written(tmp_path / "report.html", trials=4, space=space, model_id=HOSTILE))
    assert "script" not in page.tags
    assert page.words.count(HOSTILE) >= 3


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1000, False), (1000, True)])
def test_a_browser_shows_it_whole_on_any_screen_and_asks_nobody(
    report: Path, browser: Browser, width: int, dark: bool
) -> None:
    require_whole(browser, report, width, dark=dark)
    small = (
        "Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
    )
    assert browser.run(small) >= 8  # pixels: a caption on a phone
