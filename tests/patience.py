"""How long tests wait for what comes when it comes: for an event where there is one, and else for very long.

No test may fail because the machine is slow or busy. What a test waits for is an event (a line, a file, an answer, the
end of a process); this is only the time after which it is taken for hung.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 900.0
"""For any one thing to come. The longest, `make run` on few rows, takes 80 s on two cores without AVX512 on which two
other programs compete; this is more than ten times that. pytest's own `timeout`, in pyproject.toml, is twice as long,
so that it never comes before this."""
SECONDS_BETWEEN_LOOKS = 0.02


def wait_until(condition: Callable[[], object], otherwise: Callable[[], str] = lambda: "") -> None:
    """Returns once `condition` holds.

    Args:
        condition: looked at again and again; it may raise, to end a wait that has become hopeless.
        otherwise: what to say, beside the time, if it has not come to hold in SECONDS.
    """
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"not within {SECONDS:g} s. {otherwise()}"
        time.sleep(SECONDS_BETWEEN_LOOKS)
