"""Serves a model folder: `python -m serving --model-dir DIR`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # nothing is open yet, and an exception in the midst of torch's import would abort the process
    os._exit(0)


def main() -> int:
    """Serves until SIGTERM or Ctrl-C; the exit status is 0 then, and 1 when it cannot start."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    gc.disable()  # most of what the imports make stays: looking through it is a tenth of the start
    # Imported late: torch and KServe take seconds, in which a signal should already end this quietly.
    from miniml.errors import MinimlError
    from serving import options, startup

    try:
        startup.serve(options.parsed())
    except MinimlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
