"""Shows the progress of a local run on the screen, and writes all other output to a log file.

kfp.local prints the executor's input, the full command and every line of every library. Here that stream is read line
by line: the starts of stages, cache hits and the lines of `miniml.progress` are shown, and an error that miniml raised
is kept for the end.
"""

from __future__ import annotations

import io
import re
import time
from collections import Counter
from typing import TextIO

from miniml.errors import LONGEST_ERROR, TRACEBACK
from miniml.escaping import plain_without_colours
from miniml.progress import NOTE, PASSING, duration

_STARTED = re.compile(r"Executing task '(?P<stage>[\w-]+)'")
_FINISHED = re.compile(r"Task '(?P<stage>[\w-]+)' finished with status (?P<status>\w+)")
_CACHED = re.compile(r"Task (?P<stage>[\w-]+) cache hit")
# The last line of a traceback, with the full name of the exception, or only its own if it is built in.
_RAISED = re.compile(r"^(?:[\w.]+\.)?(?P<type>\w*(?:Error|Exception|Interrupt|Exit))(?:: (?P<text>.*))?$")
_INDENT = " " * 4

SECONDS_BETWEEN_KEPT_LINES = 15.0
"""Seconds between two passing lines where there is no terminal, so that each is shown for good."""


class Console(io.TextIOBase):
    """A replacement of standard output that shows stages and their progress on a screen, and logs everything."""

    def __init__(self, stages: list[str], screen: TextIO, log: TextIO) -> None:
        """Starts without any output.

        Args:
            stages: The names of the stages, in the order in which they run.
            screen: Where the progress is shown; a terminal is redrawn in place.
            log: Where every line is written.
        """
        self.seconds: dict[str, float] = {}
        """The seconds of each stage that has ended, all its turns together; 0 for one from the cache."""
        self.succeeded: list[str] = []
        """The stages that ran and, according to kfp, succeeded."""
        self.stage = ""
        """The stage that started last."""
        self.failed_stage = ""
        """The stage that failed; empty while none has."""
        self.raised: dict[str, str] = {}
        """The last error of each stage."""
        self._turns: Counter[str] = Counter()
        self._begun: dict[str, list[float]] = {}
        self._stages, self._screen, self._log = stages, screen, log
        self._redraws = screen.isatty()
        self._rest = ""
        self._passed = 0.0
        self._traceback: int | None = None
        """The indentation of the current traceback, which differs by runner; None outside of tracebacks."""

    def writable(self) -> bool:
        """Returns True, as for any output."""
        return True

    def write(self, text: str) -> int:
        """Logs the complete lines of the output so far, and shows those on the progress."""
        *lines, self._rest = (self._rest + text).split("\n")
        for raw in lines:
            line = plain_without_colours(raw.removesuffix("\r"))
            self._log.write(line + "\n")
            self._read(line)
        return len(text)

    def flush(self) -> None:
        """Flushes the log."""
        self._log.flush()

    def show(self, text: str = "") -> None:
        """Shows a line that stays on the screen."""
        self._screen.write(("\r\x1b[2K" if self._redraws else "") + text + "\n")
        self._screen.flush()

    def show_skipped(self) -> None:
        """Shows the stages that were left out."""
        for stage in self._stages:
            if stage not in self.seconds:
                self.seconds[stage] = 0.0
                self.show(f"{self._heading(stage)} · skipped")

    def _read(self, line: str) -> None:
        message = line.strip()
        if message.startswith(NOTE):
            self.show(f"        {message.removeprefix(NOTE)}")
        elif message.startswith(PASSING):
            self._pass(f"        {message.removeprefix(PASSING)}")
        elif started := _STARTED.search(line):
            self._begin(started["stage"])
        elif finished := _FINISHED.search(line):
            self._end(finished["stage"], finished["status"])
        elif cached := _CACHED.search(line):
            self.seconds.setdefault(cached["stage"], 0.0)
            self.show(f"{self._next_heading(cached['stage'])} · unchanged, taken from the cache")
        else:
            self._remember_error(line)

    def _heading(self, stage: str) -> str:
        return f"[{self._stages.index(stage) + 1}/{len(self._stages)}] {stage}"

    def _next_heading(self, stage: str) -> str:
        """Returns the heading of a stage, with the number of its turn from the second turn of a loop on."""
        self._turns[stage] += 1
        turn = self._turns[stage]
        return self._heading(stage) + (f" ({turn})" if turn > 1 else "")

    def _begin(self, stage: str) -> None:
        self.stage = stage
        self._begun.setdefault(stage, []).append(time.monotonic())
        self.show(self._next_heading(stage))

    def _end(self, stage: str, status: str) -> None:
        # Of two turns of a loop at the same time, the first to begin is assumed to end first.
        seconds = time.monotonic() - self._begun[stage].pop(0)
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 1)
        if status == "SUCCESS":
            self.succeeded.append(stage)
            self.show(f"        done in {duration(seconds)}")
        else:
            self.failed_stage = stage

    def _pass(self, text: str) -> None:
        if self._redraws:
            self._screen.write(f"\r\x1b[2K{text}")
            self._screen.flush()
        elif time.monotonic() - self._passed >= SECONDS_BETWEEN_KEPT_LINES:
            self._passed = time.monotonic()
            self.show(text)

    def _remember_error(self, line: str) -> None:
        """Keeps the last line of a traceback, whatever its error is called: pyarrow.lib.ArrowInvalid, zlib.error."""
        message = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        ends = self._traceback is not None and message != "" and indent <= self._traceback
        if ends:
            self._traceback = None
        if message == TRACEBACK:
            self._traceback = indent
        elif (found := _RAISED.match(line.removeprefix(_INDENT))) or ends:
            ours = found is not None and "miniml.errors." in message
            text = (found["text"] or "") if found and ours else message
            self.raised[self.stage] = text if len(text) <= LONGEST_ERROR else text[:LONGEST_ERROR] + "…"
