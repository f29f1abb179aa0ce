"""Handles SIGTERM, with which a platform asks a process to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Calls `act`, which may raise, on SIGTERM within the block, in place of the previous handler."""
    if threading.current_thread() is not threading.main_thread():  # Others cannot have handlers.
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_when_closed(pipe: int) -> None:
    """Sends this process SIGTERM when the other end of `pipe` (a file descriptor) is closed.

    On every platform the system closes that end when the process that holds it ends, however it ends.
    """

    def wait() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
