"""Of a container's, or session's, want of memory: what the kernel has counted, and what it is about to do."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where control groups are mounted, of version 2, or version 1 by controller."""
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Which this process is in, a line of each hierarchy: its number, its controllers, its path."""

SHARE_LEFT = 1 / 64
"""Of the memory limit: what a training takes more of within two looks, most of the time."""
SECONDS_BETWEEN_LOOKS = 0.05
_KEPT = ("anon", "shmem", "slab_unreclaimable", "pagetables")
"""Of memory.stat, what the kernel cannot take back; pages of files it can."""


def oom_kills(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """How many processes of this one's control group were killed for want of memory; 0 where nobody counts."""
    files = [folder / "memory.events" for folder in _folders(cgroups, own)]
    files += [folder / "memory.oom_control" for folder in _folders(cgroups, own, "memory")]
    for file in files:
        with suppress(OSError, ValueError, KeyError):
            return _numbers(file)["oom_kill"]
    return 0


def die_together(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> bool:
    """Whether all processes of the container are killed where one has no memory, so that nobody can start it again.

    Kubernetes has it so on cgroup v2, unless the kubelet's configuration says singleProcessOOMKill.
    """
    for folder in _folders(cgroups, own):
        with suppress(OSError):
            return (folder / "memory.oom.group").read_text(encoding="ascii").strip() == "1"
    return False


def almost_out(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> bool:
    """Whether the container has next to no memory left below its limit."""
    for folder in _folders(cgroups, own):
        with suppress(OSError, ValueError):
            limit = int((folder / "memory.max").read_text(encoding="ascii"))  # "max" is none.
            kept = _numbers(folder / "memory.stat")
            return sum(kept.get(name, 0) for name in _KEPT) > limit * (1 - SHARE_LEFT)
    return False


def killed_in_time(child: subprocess.Popen[bytes], cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> bool:
    """Waits for the end of `child`; True where it was ended here, before the kernel would have ended this one too."""
    if not die_together(cgroups, own):
        child.wait()
        return False
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(SECONDS_BETWEEN_LOOKS)
            return False
        if almost_out(cgroups, own):
            child.kill()
            child.wait()
            return True


def _folders(cgroups: Path, own: Path, controller: str = "") -> Iterator[Path]:
    """Where this process's group of that controller may be (version 1; none is version 2).

    A container sees its own group where others see the root.
    """
    root = cgroups / controller
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                yield root / path.lstrip("/")
    yield root


def _numbers(file: Path) -> dict[str, int]:
    lines = file.read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}
