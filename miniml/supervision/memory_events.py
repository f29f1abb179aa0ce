"""Reads from the control group whether processes were killed for lack of memory, or soon will be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""The mount point of control groups: version 2, or version 1 with a folder for each controller."""
OWN_CGROUPS = Path("/proc/self/cgroup")
"""The control groups of this process; each line has a hierarchy's number, its controllers and the path."""

SHARE_LEFT = 1 / 64
"""The fraction of the memory limit that a training seldom exceeds between two checks."""
SECONDS_BETWEEN_CHECKS = 0.05
_UNRECLAIMABLE = ("anon", "shmem", "slab_unreclaimable", "pagetables")
"""The entries of memory.stat that the kernel cannot reclaim, as it can pages of files."""


def oom_kills(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Returns the number of this control group's processes that were killed for lack of memory; 0 if it is unknown.

    Args:
        cgroups: The mount point of control groups.
        own: The file that lists the control groups of this process.
    """
    files = [folder / "memory.events" for folder in _folders(cgroups, own)]
    files += [folder / "memory.oom_control" for folder in _folders(cgroups, own, "memory")]
    for file in files:
        with suppress(OSError, ValueError, KeyError):
            return _numbers(file)["oom_kill"]
    return 0


def kills_all_processes(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> bool:
    """Tells whether the kernel kills all processes of the container when one runs out of memory.

    Kubernetes sets this on cgroup v2, unless the kubelet's configuration has singleProcessOOMKill.
    """
    for folder in _folders(cgroups, own):
        with suppress(OSError):
            return (folder / "memory.oom.group").read_text(encoding="ascii").strip() == "1"
    return False


def is_almost_out_of_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> bool:
    """Tells whether the container has almost reached its memory limit."""
    for folder in _folders(cgroups, own):
        with suppress(OSError, ValueError):
            limit = int((folder / "memory.max").read_text(encoding="ascii"))  # "max" means no limit.
            used = _numbers(folder / "memory.stat")
            return sum(used.get(name, 0) for name in _UNRECLAIMABLE) > limit * (1 - SHARE_LEFT)
    return False


def killed_in_time(child: subprocess.Popen[bytes], cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> bool:
    """Waits for the end of `child`, and kills it if the kernel would otherwise soon kill this process as well.

    Args:
        child: The process.
        cgroups: The mount point of control groups.
        own: The file that lists the control groups of this process.

    Returns:
        Whether this function has killed the child.
    """
    if not kills_all_processes(cgroups, own):
        child.wait()
        return False
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(SECONDS_BETWEEN_CHECKS)
            return False
        if is_almost_out_of_memory(cgroups, own):
            child.kill()
            child.wait()
            return True


def _folders(cgroups: Path, own: Path, controller: str = "") -> Iterator[Path]:
    """Yields the folders in which this process's control group may be.

    In a container, the group may be mounted as the root. A controller is only given for version 1.
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
