"""SIGTERM, by which a platform asks a process to end."""

from __future__ import annotations

import os
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


def end_when_closed(pipe: int) -> None:
    """Ends this process, as SIGTERM does, once the other end of `pipe` (a file descriptor) is closed.

    The system closes it with the process that holds it, however that has ended, on every platform.
    """

    def wait() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
