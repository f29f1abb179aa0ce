"""The page on the training, and what is told while it lasts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from miniml import progress
from miniml.data.prepared import SPLITS
from miniml.errors import InputError
from miniml.model.history import Points, read_history
from miniml.model.manifest import Manifest, read
from miniml.progress import INTERVAL
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune
from miniml.training.report import write_report
from tests.browser import WEAKEST_CONTRAST, Browser, require_whole
from tests.conftest import TRAINING
from tests.page import Page

HOSTILE = ["<script>alert(1)</script>", r"$\frac{1", "\"' onload=alert(1) x='", "</style><img src=//x.test>"]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Manifest:
    return read(model_dir)


@pytest.fixture(scope="module")
def points(model_dir: Path) -> Points:
    return read_history(model_dir)


@pytest.fixture(scope="module")
def report(model: Manifest, points: Points, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "training.html"
    write_report(model, points, path)
    return path


def test_it_is_one_page_with_its_curves_and_nothing_external(report: Path, model: Manifest) -> None:
    page = Page(report)
    assert page.tags.count("svg") == 5  # the loss twice: for a screen and for a phone
    assert all(address.startswith("#") for address in page.addresses)
    assert "script" not in page.tags
    for words in (
        f"{100 * model.metrics['validation_accuracy']:.1f} %",
        "accuracy on 24 rows of validation",
        "By chance alone it may be off by 20.0 points",
        "On validation",
        "Learning rate",
        "Norm of the gradients",
        "training, smoothed",
        "22.4 k",
        model.digest,
        model.data["fingerprint"],
        f"torch {model.versions['torch']}",
    ):
        assert words in page.words


def test_settings_that_were_not_left_alone_come_first(report: Path) -> None:
    settings = Page(report).words.partition("Settings")[2]
    assert re.search(r"learning_rate\s*0\.01\s*instead of 5e-05", settings)
    assert settings.index("learning_rate") < settings.index("seed")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_shown_and_not_run(
    hostile: str, model: Manifest, points: Points, tmp_path: Path
) -> None:
    counts = {split: {hostile: 3, "good": 4} for split in SPLITS}
    data = {**model.data, "source": hostile, "labels": [hostile, "good"], "rows_per_class": counts}
    named = {**model.arguments["training"], "model_id": hostile}
    changed = replace(model, data=data, arguments={**model.arguments, "training": named})
    write_report(changed, points, tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert not {"script", "img"} & set(page.tags)
    assert page.handlers == []
    assert page.words.count(hostile) >= 3


def test_a_training_of_one_step_has_a_report_too(dataset_dir: Path, encoder: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(**{"model_id": str(encoder), **TRAINING, "iterations": 1})
    fine_tune(dataset_dir, tmp_path / "model", settings)
    write_report(read(tmp_path / "model"), read_history(tmp_path / "model"), tmp_path / "report.html")
    assert "after 1 steps" in Page(tmp_path / "report.html").words.replace("\n   ", "")


def test_many_classes_are_told_by_their_number(model: Manifest, points: Points, tmp_path: Path) -> None:
    labels = [f"class {number}" for number in range(50)]
    counts = dict.fromkeys(("train", "validation", "test"), dict.fromkeys(labels, 3))
    data = {**model.data, "labels": labels, "rows_per_class": counts}
    write_report(replace(model, data=data), points, tmp_path / "report.html")
    assert "30 smaller classes are not shown" in Page(tmp_path / "report.html").words


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1000, False), (1000, True)])
def test_a_browser_shows_it_whole_on_any_screen_and_asks_nobody(
    report: Path, browser: Browser, width: int, dark: bool
) -> None:
    require_whole(browser, report, width, dark=dark)
    shown = "[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().height)"
    assert browser.run(f"{shown}.length") == 4
    letters = (
        f"{shown}.flatMap(s => [...s.querySelectorAll('text')]).map(t => t.getBoundingClientRect().height)"
    )
    assert browser.run(f"Math.min(...{letters})") >= 8  # pixels


@pytest.mark.browser
def test_on_paper_it_is_dark_on_light_wherever_it_was_printed(report: Path, browser: Browser) -> None:
    browser.open(report.as_uri(), dark=True)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    browser.call("Emulation.setEmulatedMedia", media="print", features=[scheme])
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run(WEAKEST_CONTRAST) >= 4.5
    browser.call("Emulation.setEmulatedMedia", media="", features=[])


def progress_lines(capsys: pytest.CaptureFixture[str], begin: str) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"miniml~ {begin}")]


def test_progress_tells_loss_learning_rate_speed_and_time_left(
    dataset_dir: Path, encoder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(INTERVAL, "0")
    settings: dict[str, Any] = {"model_id": str(encoder), **TRAINING, "iterations": 10}
    fine_tune(dataset_dir, tmp_path / "model", TrainingSettings(**settings))
    out = capsys.readouterr().out
    lines = re.findall(r"training \d+/10 steps.*", out)
    assert len(lines) == 10
    form = r"training 10/10 steps · loss \d\.\d{3} · lr 0\.0e\+00 · [\d.]+ samples/s · 0 s left"
    assert re.fullmatch(form, lines[-1])
    assert "validating 1/1 batches" in out


def test_in_a_log_a_line_is_told_every_ten_seconds_at_most(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(INTERVAL, raising=False)
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    steps = progress.Progress("training", 100, "steps")
    for step in range(1, 101):
        now += 0.5
        steps.report(step)
    lines = progress_lines(capsys, "training")
    assert [line.split()[2] for line in lines] == ["20/100", "40/100", "60/100", "80/100", "100/100"]
    assert lines[0].endswith("40 s left")


def test_what_was_done_before_says_nothing_of_the_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INTERVAL, "1")
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    steps = progress.Progress("training", 100, "steps", begun=90)
    now = 5.0
    steps.report(95)
    assert progress_lines(capsys, "training")[0].endswith("5 s left")


def test_an_interval_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, "often")
    with pytest.raises(
        InputError, match="MINIML_PROGRESS_SECONDS is 'often'; it must be a number of seconds"
    ):
        progress.Progress("training", 1, "steps")
