"""What a person sees of a local run: our stages' own lines; everything else goes to a log file.

kfp.local prints the executor's input, the full command and every line of every library. Here that stream
is read line by line: stage starts, cache hits and the lines of `miniml.progress` are shown, an error that
miniml raised is kept for the end.
"""

from __future__ import annotations

import io
import re
import time
from collections import Counter
from typing import TextIO

from miniml.escaping import plain
from miniml.progress import NOTE, PASSING, duration

_STARTED = re.compile(r"Executing task '(?P<stage>[\w-]+)'")
_FINISHED = re.compile(r"Task '(?P<stage>[\w-]+)' finished with status (?P<status>\w+)")
_CACHED = re.compile(r"Task (?P<stage>[\w-]+) cache hit")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# The last line of a traceback: what was raised, by its full name or, if built in, its own.
_RAISED = re.compile(r"^(?:[\w.]+\.)?(?P<type>\w*(?:Error|Exception|Interrupt|Exit))(?:: (?P<text>.*))?$")
_INDENT = " " * 4
_TRACEBACK = "Traceback (most recent call last):"
# Characters of what was raised; the log has all of it.
LONGEST_ERROR = 1500

# Without a terminal to redraw, a passing line is worth keeping only so often.
SECONDS_BETWEEN_KEPT_LINES = 15.0


class Console(io.TextIOBase):
    """A standard output that shows stages and their progress on `screen`, and writes all else to `log`."""

    def __init__(self, stages: list[str], screen: TextIO, log: TextIO) -> None:
        self.seconds: dict[str, float] = {}
        """Seconds of each stage that has ended, all its turns together; 0 where the cache had it."""
        self.succeeded: list[str] = []
        """The stages that ran and, as kfp says, ended well."""
        self.stage = ""
        """The stage that started last."""
        self.failed_stage = ""
        self.raised: dict[str, str] = {}
        """What each stage raised last."""
        self._turns: Counter[str] = Counter()
        self._begun: dict[str, list[float]] = {}
        self._stages, self._screen, self._log = stages, screen, log
        self._redraws = screen.isatty()
        self._rest = ""
        self._passed = 0.0
        self._traceback: int | None = None
        """How far the traceback is indented that goes on, which differs by runner."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for written in lines:
            # Colours are the libraries' own; any other thing that a terminal obeys may come from the data.
            line = plain(_COLOUR.sub("", written.removesuffix("\r")))
            self._log.write(line + "\n")
            self._read(line)
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def show(self, text: str = "") -> None:
        """A line that stays."""
        self._screen.write(("\r\x1b[2K" if self._redraws else "") + text + "\n")
        self._screen.flush()

    def show_skipped(self) -> None:
        """Says which stages had nothing to do."""
        for stage in self._stages:
            if stage not in self.seconds:
                self.seconds[stage] = 0.0
                self.show(f"{self._heading(stage)} · skipped")

    def _read(self, line: str) -> None:
        said = line.strip()
        if said.startswith(NOTE):
            self.show(f"        {said.removeprefix(NOTE)}")
        elif said.startswith(PASSING):
            self._pass(f"        {said.removeprefix(PASSING)}")
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
        """Its heading, with a number from the second turn of a loop on."""
        self._turns[stage] += 1
        turn = self._turns[stage]
        return self._heading(stage) + (f" ({turn})" if turn > 1 else "")

    def _begin(self, stage: str) -> None:
        self.stage = stage
        self._begun.setdefault(stage, []).append(time.monotonic())
        self.show(self._next_heading(stage))

    def _end(self, stage: str, status: str) -> None:
        # Of two turns of a loop beside each other, the first to begin is taken for the first to end.
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
        """Keeps the line that ends a traceback, whatever its error is called: pyarrow.lib.ArrowInvalid, zlib.error."""
        said = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        ends = self._traceback is not None and said != "" and indent <= self._traceback
        if ends:
            self._traceback = None
        if said == _TRACEBACK:
            self._traceback = indent
        elif (found := _RAISED.match(line.removeprefix(_INDENT))) or ends:
            ours = found is not None and "miniml.errors." in said
            text = (found["text"] or "") if found and ours else said
            self.raised[self.stage] = text if len(text) <= LONGEST_ERROR else text[:LONGEST_ERROR] + "…"
