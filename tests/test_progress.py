"""What is told while something takes long, where nobody knows how much there is."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from miniml import progress
from miniml.progress import INTERVAL, Progress, watched


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
