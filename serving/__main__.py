"""Serves a model folder: `python -m serving --model-dir DIR`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # Nothing is open yet, and an exception in the midst of torch's import would abort the process.
    os._exit(0)


def main() -> int:
    """Serves until SIGTERM or Ctrl-C.

    Returns:
        The exit status: 0 after a signal, 1 where the server cannot start.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    # Most of what the imports create stays, and the collector's passes over it take a tenth of the start.
    gc.disable()
    # Imported late: torch and KServe take seconds to import, in which a signal should already end this quietly.
    from miniml.errors import MinimlError

    from . import options, startup

    try:
        startup.serve(options.parse_arguments())
    except MinimlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
