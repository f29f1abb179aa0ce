"""The processes that a run has started, which are not to outlive it: stages that train, the predictor that is asked."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What a platform or a closed terminal asks a process to end with. Ctrl-C's SIGINT reaches children by itself."""
SECONDS_BETWEEN_LOOKS = 0.1


@contextmanager
def ended_with_us() -> Iterator[None]:
    """In the block, a SIGTERM or SIGHUP is handed on to all that this process has started, and then ends the block.

    A training saves a checkpoint before it ends. A second signal ends at once whatever is still there. What is started
    after the first one is ended too: kfp.local goes through all trials of a search in threads of its own, which no
    exception reaches.

    Raises:
        SystemExit: a signal came; the status is the one that a shell would give.
    """
    import psutil  # Only here: whoever submits to a cluster starts nothing here.

    handlers = {number: signal.getsignal(number) for number in ENDING}
    # nohup has SIGHUP ignored, and means it.
    taken = [number for number, handler in handlers.items() if handler is not signal.SIG_IGN]
    ending: set[psutil.Process] = set()
    over = threading.Event()

    def end_what_comes() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            for child in set(psutil.Process().children(recursive=True)) - ending:
                ending.add(child)
                with suppress(psutil.NoSuchProcess):
                    child.terminate()

    def end(number: int, _: FrameType | None) -> None:
        how = signal.SIGKILL if ending else signal.SIGTERM
        ending.update(psutil.Process().children(recursive=True))
        for child in ending:
            with suppress(psutil.NoSuchProcess):
                child.send_signal(how)
        if how == signal.SIGTERM:
            threading.Thread(target=end_what_comes, daemon=True).start()
        print(f"\nstopped by {signal.Signals(number).name}", file=sys.stderr)
        raise SystemExit(128 + number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        over.set()
        psutil.wait_procs(ending)  # What a stage has started is not ours to wait for in any other way.
        for number in taken:
            signal.signal(number, handlers[number])
