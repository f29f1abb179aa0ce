"""What the kernel has counted of this container's, or session's, want of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def oom_kills(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """How many processes of this one's control group were killed for want of memory; 0 where nobody counts.

    Args:
        cgroups: Where control groups are mounted, of version 2, or version 1 by controller.
        own: Which this process is in, a line of each hierarchy: its number, its controllers, its path.
    """
    for file in _counters(cgroups, own):
        with suppress(OSError, ValueError, KeyError):
            counted = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
            return int(counted["oom_kill"])
    return 0


def _counters(cgroups: Path, own: Path) -> Iterator[Path]:
    """Where the counter may be. A container sees its own group where others see the root."""
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield cgroups / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                yield cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
    yield cgroups / "memory.events"
    yield cgroups / "memory" / "memory.oom_control"
