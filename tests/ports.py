"""Free ports for the servers that tests start in processes of their own."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_DRAW = random.SystemRandom()  # tests that run beside each other may all have seeded the common one alike


def free_port() -> int:
    """A port that nobody listens on, and that nobody is given by chance before its server has started.

    The kernel gives any connection a port of its own range; between this answer and the server's start, seconds later
    where the machine is busy, one of that range would now and then be taken.
    """
    while True:
        port = _DRAW.randrange(_LOWEST, _first_of_the_kernel())
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _first_of_the_kernel() -> int:
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    return first if first > _LOWEST + 1_000 else 65_536
