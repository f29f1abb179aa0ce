"""What the processor can do, and how much of it is ours."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_processors(processors: int, cpu_quota: Path = CPU_QUOTA) -> int:
    """`processors`, or as many as the container's quota (cgroup v2) pays for, where that is less.

    A container sees all processors of its node. Threads beyond the quota use it up by waiting for one
    another, and then all of them are paused until the next period.
    """
    try:
        quota, period = cpu_quota.read_text().split()
    except OSError:
        return processors
    if quota == "max":
        return processors
    return max(1, min(processors, int(quota) // int(period)))


@contextmanager
def threads_within_quota(cpu_quota: Path = CPU_QUOTA) -> Iterator[None]:
    """Has torch compute on no more threads than the container's processor quota pays for."""
    before = torch.get_num_threads()
    torch.set_num_threads(usable_processors(before, cpu_quota))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def has_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if not (capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")):
            return False
        # What multiplies may have been told to do with less than there is: ONEDNN_MAX_CPU_ISA=AVX2.
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False


def name() -> str:
    """What its maker calls it, where the system tells; otherwise the kind of its instructions."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:  # not on Linux
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
