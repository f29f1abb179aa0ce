"""When the client of the request at hand gives up; each protocol's edge says so, and the predictor asks."""

from __future__ import annotations

import time
from contextvars import ContextVar

_end: ContextVar[float | None] = ContextVar("end", default=None)
# A moment and not a span: the body's way here, and its reading, take of the client's time too.


def begin(seconds: float | None) -> None:
    """Says that the client waits so long from now; None where it set no deadline."""
    _end.set(None if seconds is None else time.monotonic() + seconds)


def remaining() -> float | None:
    """The seconds that are left of it, below 0 where it is over; None without a deadline."""
    end = _end.get()
    return None if end is None else end - time.monotonic()
