"""The report, as a person meets it: on a screen, in the dark, on a phone, on paper, and whatever labels are called."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miniml.evaluation.comparison import compare
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.report import write_report
from miniml.evaluation.result import (
    MAX_CONFUSED,
    OTHER_CLASSES,
    ClassScores,
    Estimate,
    EvaluationResult,
    Mistake,
    Slice,
)
from miniml.model.attribution import Attribution
from miniml.model.history import read_history
from miniml.model.manifest import read
from tests.browser import WEAKEST_CONTRAST, Browser, require_whole
from tests.page import Page

HOSTILE = [
    "<script>alert(1)</script>",
    r"$\frac{1",
    "\"' onload=alert(1) x='",
    "</style><img src=//x.test>",
    "好" * 40,
]


@pytest.fixture(scope="module")
def result(model_dir: Path, dataset_dir: Path) -> EvaluationResult:
    """With a mistake, a champion and parts too small to judge, whether the model left any or not."""
    found = evaluate_model(model_dir, dataset_dir)
    pieces = [
        Attribution("not "),
        Attribution("awful", 2.5, 0.4),
        Attribution(" but "),
        Attribution("tasty", -1.0, 0.99),
        Attribution(" unread"),
    ]
    answers = np.arange(found.test_rows) % 10 > 0
    return replace(
        found,
        mistakes=[Mistake(7, "good", "bad", 0.98, pieces)],
        slices=[Slice("source", "a forum", 40, Estimate(0.6, 0.45, 0.74)), *found.slices],
        small_slices=[Slice("source", "elsewhere", 3, Estimate(1.0, 0.44, 1.0))],
        comparison=compare(answers, ~answers, "c" * 64),
    )


@pytest.fixture(scope="module")
def report(result: EvaluationResult, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(result, read(model_dir), read_history(model_dir), path)
    return path


def test_the_report_is_one_page_with_five_pictures_and_nothing_external(
    report: Path, result: EvaluationResult
) -> None:
    page = Page(report)
    assert page.tags.count("svg") == 5
    assert all(address.startswith("#") for address in page.addresses)
    assert "script" not in page.tags
    for words in (
        f"{100 * result.accuracy.value:.1f} %",
        "Do its probabilities mean what they say?",
        "Where it does worst",
        "ROC curve",
        "Its most confident mistakes",
        "Training curve",
        "Confusion matrix",
        "the model that is served now, cccccccccccc",
        "the baseline, TF-IDF with logistic regression, 216 training rows",
        "source elsewhere (100.0 % of 3)",
        "7 more",
        result.model_digest,
    ):
        assert words in page.words
    assert set(re.findall(r"\b(?:bad|good)\b", page.words)) == {"bad", "good"}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_shown_and_not_run(
    hostile: str, result: EvaluationResult, model_dir: Path, tmp_path: Path
) -> None:
    changed = replace(
        result,
        classes=[ClassScores(**{**vars(scores), "label": hostile}) for scores in result.classes],
        slices=[Slice(hostile, hostile, 40, result.accuracy)],
        mistakes=[Mistake(0, hostile, hostile, 0.9, [Attribution(hostile, 1.0, 0.5)])],
    )
    write_report(changed, read(model_dir), [], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert not {"script", "img"} & set(page.tags)
    assert page.handlers == []
    assert page.words.count(hostile) >= 4


def test_what_could_not_be_told_is_left_out(
    result: EvaluationResult, model_dir: Path, tmp_path: Path
) -> None:
    bare = replace(
        result,
        slices=[], small_slices=[], mistakes=[], baseline={}, baseline_comparison=None, comparison=None, curves=None,
        calibration=None, speed=None,
    )  # fmt: skip
    write_report(bare, read(model_dir), [], tmp_path / "report.html")
    words = Page(tmp_path / "report.html").words
    assert "No part of the test has enough rows to judge by." in words
    for left_out in ("ROC curve", "baseline,", "served now", "mistakes", "Temperature"):
        assert left_out not in words


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1000, False), (1000, True)])
def test_a_browser_shows_it_whole_on_any_screen_and_asks_nobody(
    report: Path, browser: Browser, width: int, dark: bool
) -> None:
    require_whole(browser, report, width, dark=dark)
    assert "awful" in browser.text_of("mark[title]")
    small = (
        "Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
    )
    assert browser.run(small) >= 8  # pixels: a caption on a phone


@pytest.mark.browser
def test_on_paper_it_is_dark_on_light_wherever_it_was_printed(report: Path, browser: Browser) -> None:
    browser.open(report.as_uri(), dark=True)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    browser.call("Emulation.setEmulatedMedia", media="print", features=[scheme])
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert browser.run(WEAKEST_CONTRAST) >= 4.5
    pages = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert pages.startswith(b"%PDF")
    browser.call("Emulation.setEmulatedMedia", media="", features=[])


def test_of_a_thousand_classes_those_that_are_confused_most_are_shown(
    result: EvaluationResult, model_dir: Path, tmp_path: Path
) -> None:
    matrix = (5 * np.eye(1000, dtype=int)).tolist()
    matrix[700][3] = 9
    many = replace(
        result,
        classes=[ClassScores(f"class {number}", 1.0, 1.0, 1.0, 5) for number in range(1000)],
        confusion_matrix=matrix,
    )
    shown = many.confusion()
    assert len(shown.labels) == len(shown.counts) == MAX_CONFUSED
    assert shown.labels[-1] == OTHER_CLASSES
    assert shown.counts[shown.labels.index("class 700")][shown.labels.index("class 3")] == 9
    assert sum(map(sum, shown.counts)) == sum(map(sum, matrix))
    write_report(many, read(model_dir), [], tmp_path / "report.html")
    assert "Of 1,000 classes those that are confused most" in Page(tmp_path / "report.html").words
    assert (tmp_path / "report.html").stat().st_size < 2e6
