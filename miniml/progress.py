"""What a stage says it is doing: plain lines on standard output, wherever it runs.

In a pod they are the log. On a laptop the runner (`miniml/local/console.py`) picks them out of everything
else that a stage prints, and draws passing ones in place. A program that uses miniml as a library sets
`logging.getLogger("miniml")` as it sets any other: `setLevel("WARNING")` silences it, and a handler takes the place of
the lines.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from miniml.errors import InputError

NOTE = "miniml: "
"""Begins a line worth keeping."""
PASSING = "miniml~ "
"""Begins a line that the next one may replace: how far, how long still."""

INTERVAL = "MINIML_PROGRESS_SECONDS"
"""The variable that says how many seconds lie between two passing lines at least. A stage cannot see who reads it:
whoever draws them in place asks for many, and a log, where every one of them stays, is content with the default."""
DEFAULT_SECONDS = 10.0
# Between two looks at what has come, in seconds, however many lines somebody asks for.
SHORTEST_WAIT = 0.1


class _OneLine(logging.Formatter):
    """Writes a record as one line, whatever names of the data are in it: it may be redrawn in place."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = PASSING if getattr(record, "passing", False) else NOTE
        said = super().format(record)
        return prefix + "".join(character if character.isprintable() else " " for character in said)


class _StandardOutput(logging.Handler):
    """Prints a record to where standard output leads at that moment, unless the program has handlers for miniml's.

    What printing raises is raised, where logging's own handlers would print a traceback and go on: a runner whose
    terminal is gone is to end.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if package.handlers:
            package.handle(record)
        else:
            print(self.format(record), flush=True)


package = logging.getLogger("miniml")
logger = logging.getLogger(__name__)
# A stage has no program of its own that would set these: KFP's executor calls its function. That one logs to standard
# output as well, so that a record that went on to it would be there twice.
if not package.level:
    package.setLevel(logging.INFO)
_printing = _StandardOutput()
_printing.setFormatter(_OneLine())
logger.addHandler(_printing)
logger.propagate = False


def passing(text: str) -> None:
    """Logs a line that the next one may replace."""
    logger.info(text, extra={"passing": True})


class Progress:
    """Tells how far some long work is, every few seconds (see `INTERVAL`)."""

    def __init__(self, what: str, total: int | None, unit: str, begun: int = 0) -> None:
        """`begun` of the total were done before, in another process; where nobody knows the total it is None."""
        self._what, self._total, self._unit, self._begun = what, total, unit, begun
        self.interval = _interval()
        self._start = self._last = time.monotonic()

    def report(self, done: int, detail: str = "") -> None:
        """Says that `done` of the total are done; the time left follows from the pace so far."""
        now = time.monotonic()
        if done <= self._begun or now - self._last < self.interval:
            return
        self._last = now
        taken = now - self._start
        if self._total is None:
            parts = [f"{self._what} {done:,} {self._unit}", detail, duration(taken)]
        else:
            left = taken / (done - self._begun) * (self._total - done)
            parts = [f"{self._what} {done:,}/{self._total:,} {self._unit}", detail, f"{duration(left)} left"]
        passing(" · ".join(part for part in parts if part))


@contextmanager
def watched(what: str, so_far: Callable[[], int]) -> Iterator[None]:
    """Tells how many MB have come, every few seconds, while a library fetches them and says nothing itself.

    `so_far` counts the bytes, those included that were there before.
    """
    progress, before, over = Progress(what, None, "MB"), so_far(), threading.Event()

    def look() -> None:
        while not over.wait(max(SHORTEST_WAIT, progress.interval)):
            progress.report((so_far() - before) >> 20)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _interval() -> float:
    told = os.environ.get(INTERVAL, str(DEFAULT_SECONDS))
    try:
        return float(told)
    except ValueError as error:
        raise InputError(f"{INTERVAL} is {told!r}; it must be a number of seconds, 10 say.") from error


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3:05, 2:10:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
