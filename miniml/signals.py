"""SIGTERM, by which a platform asks a process to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """In the block SIGTERM does `act`, which may raise, and nothing else."""
    if threading.current_thread() is not threading.main_thread():  # Others cannot have handlers.
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
