"""Passes the deadline of the current request from each protocol's entry to the predictor."""

from __future__ import annotations

import time
from contextvars import ContextVar

_end: ContextVar[float | None] = ContextVar("end", default=None)
# A point in time, not a duration: receiving and parsing the body take of the client's time too.


def begin(seconds: float | None) -> None:
    """Sets the deadline of the current request.

    Args:
        seconds: How long the client waits from now on, or None where it set no deadline.
    """
    _end.set(None if seconds is None else time.monotonic() + seconds)


def remaining() -> float | None:
    """Returns the seconds until the deadline, negative when it has passed, or None without a deadline."""
    end = _end.get()
    return None if end is None else end - time.monotonic()
