"""Ends the processes that a run has started together with the run: stages that train, and the predictor."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""The signals by which a platform or a closed terminal ends a process. Ctrl-C sends SIGINT to the children as well."""
SECONDS_BETWEEN_LOOKS = 0.1
"""Seconds between two looks for new child processes."""


@contextmanager
def ended_with_us() -> Iterator[None]:
    """Within the block, sends a SIGTERM or SIGHUP on to all child processes, and then leaves the block.

    A training saves a checkpoint before it ends. A second signal kills all processes that still run. Processes that are
    started after the first signal are ended too: kfp.local runs the trials of a search in threads, which an exception
    does not reach.

    Raises:
        SystemExit: A signal came; the exit status is 128 and the signal's number, as a shell gives it.
    """
    import psutil  # Only here: submitting a run to a cluster needs no psutil.

    handlers = {number: signal.getsignal(number) for number in ENDING}
    # nohup ignores SIGHUP on purpose.
    taken = [number for number, handler in handlers.items() if handler is not signal.SIG_IGN]
    ending: set[psutil.Process] = set()
    over = threading.Event()

    def end_new_children() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            for child in set(psutil.Process().children(recursive=True)) - ending:
                ending.add(child)
                with suppress(psutil.NoSuchProcess):
                    child.terminate()

    def end(number: int, _: FrameType | None) -> None:
        sent = signal.SIGKILL if ending else signal.SIGTERM
        ending.update(psutil.Process().children(recursive=True))
        for child in ending:
            with suppress(psutil.NoSuchProcess):
                child.send_signal(sent)
        if sent == signal.SIGTERM:
            threading.Thread(target=end_new_children, daemon=True).start()
        print(f"\nstopped by {signal.Signals(number).name}", file=sys.stderr)
        raise SystemExit(128 + number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        over.set()
        # Grandchildren, too: os.wait knows only a process's own children.
        psutil.wait_procs(ending)
        for number in taken:
            signal.signal(number, handlers[number])
