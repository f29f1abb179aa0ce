"""Watches the threads that answer, for the probes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# The least time for one piece of work before its thread counts as hung. Pieces take milliseconds, or seconds on a small
# share of a processor, and a pod that is restarted for nothing loses the requests that it was answering.
SECONDS_UNTIL_HUNG = 60.0


@dataclass(eq=False)
class Worker:
    """A thread that does one piece of work after the other, and shows whether it still works."""

    name: str
    thread: threading.Thread | None = None
    """The thread, which must not end; None where it cannot."""
    _due: float = math.inf
    """When the current piece has to be done, in seconds of `time.monotonic`; infinite while there is none."""

    @contextmanager
    def working(self, longest_s: float) -> Iterator[None]:
        """Surrounds a piece of work.

        Args:
            longest_s: The seconds that the piece may take, where that is more than `SECONDS_UNTIL_HUNG`.
        """
        self._due = time.monotonic() + max(SECONDS_UNTIL_HUNG, longest_s)
        try:
            yield
        finally:
            self._due = math.inf

    @property
    def failure(self) -> str:
        """The reason why the thread is not healthy; "" while it waits or works."""
        if self.thread and not self.thread.is_alive():
            return f"the thread of {self.name} has ended"
        if time.monotonic() >= self._due:
            return f"{self.name} hangs: one piece of work should long be done"
        return ""
