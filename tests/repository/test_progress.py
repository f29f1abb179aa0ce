"""What is told while something takes long, where nobody knows how much there is."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from miniml import progress
from miniml.errors import InputError
from miniml.escaping import plain
from miniml.local.ask import describe_answer
from miniml.local.console import Console
from miniml.progress import INTERVAL, NOTE, PASSING, Progress, watched
from tests.command import ROOT


def test_where_the_total_is_not_known_it_tells_what_is_done_and_since_when(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INTERVAL, "10")
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    reading = Progress("reading", None, "rows")
    for rows in (60_000, 120_000):
        now += 6
        reading.report(rows)
    assert capsys.readouterr().out == "miniml~ reading 120,000 rows · 12 s\n"


def test_what_a_library_fetches_in_silence_is_told_by_what_has_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INTERVAL, "0")
    asked, counts = threading.Semaphore(0), iter([5 << 20])

    def so_far() -> int:
        asked.release()
        return next(counts, 47 << 20)

    with watched("fetching a model,", so_far):
        for _ in range(3):  # Before it begins, and twice from then on: so one line at least is out.
            asked.acquire()
    assert capsys.readouterr().out.startswith("miniml~ fetching a model, 42 MB · ")


HOSTILE = "good\x1b]0;pwned\x07\x1b[2J\x9b31m\u202ebad\rover"
"""Sets a window's title, clears the screen, colours, turns the reading direction, and goes back to the line's start."""


def test_names_move_no_terminal_wherever_they_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    progress.logger.info(f"2 classes: {HOSTILE}")
    screen, log = io.StringIO(), io.StringIO()
    console = Console(["transform"], screen, log)
    console.write(
        f"{PASSING}publishing {HOSTILE}\n{NOTE}reading {HOSTILE}\nminiml.errors.InputError: {HOSTILE}\n"
    )
    shown = [
        capsys.readouterr().out,
        screen.getvalue(),
        log.getvalue(),
        *console.raised.values(),
        str(InputError(f"column {HOSTILE} is not there")),
        describe_answer({"label": HOSTILE, "probabilities": {HOSTILE: 1.0}}),
    ]
    for text in shown:
        assert text and not set(text) & set("\x1b\x07\x9b\u202e\r")


def test_what_reads_as_it_should_is_left_alone() -> None:
    for text in ("gut & schön", "two\nlines\tand more", "a\u00a0blank", "👩\u200d💻", "نامه\u200cای"):
        assert plain(text) == text


def in_a_program_that(*words: str) -> str:
    """What a program prints that does so, and then logs a line of ours."""
    program = [*words, "from miniml.progress import logger", "logger.info('reading 2 files')"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_program_that_sets_nothing_prints_the_lines_once() -> None:
    as_kfp_does = "import logging, sys; logging.basicConfig(stream=sys.stdout, level=logging.INFO)"
    assert in_a_program_that() == in_a_program_that(as_kfp_does) == "miniml: reading 2 files\n"


def test_a_program_can_silence_the_lines_or_take_them_over() -> None:
    own = "import logging, sys; ours = logging.getLogger('miniml')"
    assert in_a_program_that(own, "ours.setLevel('WARNING')") == ""
    for when in ("import sys", "import miniml.progress"):
        assert (
            in_a_program_that(own, when, "ours.addHandler(logging.StreamHandler(sys.stdout))")
            == "reading 2 files\n"
        )
