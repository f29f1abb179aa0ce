"""What several test files need: a tiny encoder, reviews, and what comes of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from miniml.data import preparation
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import fine_tune
from tests import tiny
from tests.s3_server import S3Server

if TYPE_CHECKING:
    from tests.browser import Browser
    from tests.predictor import Server

# The same examples at every run: a failure is of the change at hand. How long one takes tells of the machine.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if terminal := config.pluginmanager.get_plugin("terminalreporter"):
        config.pluginmanager.register(_FailuresAtOnce(terminal))


class _FailuresAtOnce:
    """Prints one line for a test as soon as it fails: a run that is cut off, or breaks down, prints no summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            lines = report.longreprtext.splitlines()
            reason = next((line for line in lines if line.startswith("E ")), lines[-1] if lines else "")
            self._terminal.write_line(
                f"\n{report.when} of {report.nodeid} failed: {reason.removeprefix('E').strip()}"
            )


TRAINING: dict[str, Any] = {"batch_size": 16, "iterations": 60, "learning_rate": 1e-2, "max_length": 32}
"""Enough for a tiny model to tell good words from bad ones."""


@pytest.fixture(scope="session", autouse=True)
def _cache_of_these_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is fetched and kept does not come from the person's own cache, nor goes there."""
    os.environ["MINIML_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _cache_of_this_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that another test has finished is not taken for this one's."""
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_reviews(tmp_path_factory.mktemp("reviews") / "reviews.csv", rows=300)


@pytest.fixture(scope="session")
def dataset_dir(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    preparation.prepare(DataSettings(dataset_id=str(reviews), label_names="bad,good"), folder)
    return folder


@pytest.fixture(scope="session")
def model_dir(dataset_dir: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    fine_tune(dataset_dir, folder, TrainingSettings(model_id=str(encoder), **TRAINING))
    return folder


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    running = S3Server(tmp_path_factory.mktemp("s3") / "server")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(
        tmp_path_factory.mktemp("served") / "model", labels=("bad", "so so", "gut & schön")
    )


@pytest.fixture(scope="session")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A predictor of the tiny model; who would break or stop it starts one of their own."""
    from tests.predictor import (
        running,  # here, as most tests do without KServe, which takes seconds to import
    )

    with running(tiny_model, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from tests.browser import PROGRAM, browsing

    if not PROGRAM:
        if os.environ.get("MINIML_EXPECT_BROWSER"):
            pytest.fail("chromium is not installed, and MINIML_EXPECT_BROWSER says that it is")
        pytest.skip("needs chromium; on Debian: apt-get install chromium")
    with browsing() as browser:
        yield browser
