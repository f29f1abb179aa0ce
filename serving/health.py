"""Whether the threads that answer still do, which is what probes ask."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Of one piece of work at least, before its thread is taken for hung: pieces take milliseconds, or seconds on a small
# share of a processor, and a pod that is started anew for nothing loses what it was answering.
SECONDS_UNTIL_HUNG = 60.0


@dataclass(eq=False)
class Worker:
    """A thread that does one piece of work after the other, and shows whether it still does."""

    name: str
    thread: threading.Thread | None = None
    """What must not end; None where it cannot."""
    _due: float = math.inf
    """When the piece at hand is to be done, on the clock of `time.monotonic`, in seconds; infinite between two."""

    @contextmanager
    def working(self, longest_s: float) -> Iterator[None]:
        """Does a piece of work that takes no longer than `longest_s`, or than any piece may."""
        self._due = time.monotonic() + max(SECONDS_UNTIL_HUNG, longest_s)
        try:
            yield
        finally:
            self._due = math.inf

    @property
    def failure(self) -> str:
        """What is wrong with it; empty while it waits or works."""
        if self.thread and not self.thread.is_alive():
            return f"the thread of {self.name} has ended"
        if time.monotonic() >= self._due:
            return f"{self.name} hangs: one piece of work should long be done"
        return ""
