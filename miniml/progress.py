"""Logs what a stage is doing, as plain lines on standard output.

In a pod these lines are the log. On a laptop the runner (`miniml/local/console.py`) finds them among a stage's other
output, and redraws transient ones in place. A program that uses miniml as a library configures
`logging.getLogger("miniml")` like any other logger: `setLevel("WARNING")` silences it, and a handler replaces the
lines.
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
"""The prefix of a line that stays."""
PASSING = "miniml~ "
"""The prefix of a transient line of progress, which the next one may replace."""

INTERVAL = "MINIML_PROGRESS_SECONDS"
"""The environment variable with the minimum seconds between two transient lines. A console that redraws them in place
sets a short interval; the default suits a log, where each line stays."""
DEFAULT_SECONDS = 10.0
# The minimum seconds between two measurements of a download, however short the interval is.
SHORTEST_WAIT = 0.1


class _OneLine(logging.Formatter):
    """Writes a record as one line, since it may be redrawn in place: names from the data may hold line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = PASSING if getattr(record, "passing", False) else NOTE
        said = super().format(record)
        return prefix + "".join(character if character.isprintable() else " " for character in said)


class _StandardOutput(logging.Handler):
    """Prints a record to the current `sys.stdout`, unless the program has added handlers to miniml's logger.

    Errors of printing are raised, where logging's own handlers would print a traceback and continue: a runner whose
    terminal is gone must end.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if package.handlers:
            package.handle(record)
        else:
            print(self.format(record), flush=True)


package = logging.getLogger("miniml")
logger = logging.getLogger(__name__)
# A stage has no program of its own that could configure logging: KFP's executor calls its function. The executor's
# handler writes to standard output as well, so a record that propagated to it would appear twice.
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
    """Logs the progress of a long task every few seconds (see `INTERVAL`)."""

    def __init__(self, what: str, total: int | None, unit: str, begun: int = 0) -> None:
        """Starts the clock.

        Args:
            what: What is being done, as the beginning of the line.
            total: The number of units of the whole task; None if it is unknown.
            unit: The unit, in the plural.
            begun: The number of units that an earlier process has done.
        """
        self._what, self._total, self._unit, self._begun = what, total, unit, begun
        self.interval = _interval()
        self._start = self._last = time.monotonic()

    def report(self, done: int, detail: str = "") -> None:
        """Logs that `done` units are done, if the interval has passed.

        Args:
            done: The number of units done, including those of an earlier process.
            detail: A further figure for the line, such as the loss.
        """
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
    """Logs every few seconds how many MB have arrived, while a library downloads them without logging.

    Args:
        what: What is being done, as the beginning of the line.
        so_far: Returns the bytes on disk, including those from before.
    """
    progress, before, over = Progress(what, None, "MB"), so_far(), threading.Event()

    def poll() -> None:
        while not over.wait(max(SHORTEST_WAIT, progress.interval)):
            progress.report((so_far() - before) >> 20)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _interval() -> float:
    value = os.environ.get(INTERVAL, str(DEFAULT_SECONDS))
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"{INTERVAL} is {value!r}; it must be a number of seconds, 10 say.") from error


def duration(seconds: float) -> str:
    """Formats seconds for people: 42 s, 3:05, 2:10:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
