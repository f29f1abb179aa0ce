"""Where a training computes, in which precision, and on how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from miniml.errors import InputError
from miniml.processor import CPU_QUOTA, has_bf16, usable_processors


def choose_device(device: str) -> torch.device:
    """The torch device of that name; "auto" takes the fastest there is.

    Raises:
        InputError: this machine has no such device.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.append("mps")
    available += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if device == "auto":
        device = available[-1]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in available:
        raise InputError(
            f"device {device!r} is not on this machine; torch sees: {', '.join(available)}. Set device to one of them."
        )
    return torch.device(wanted)


def computes_in_bf16(device: torch.device, precision: str) -> bool:
    """Whether that `precision` means bfloat16 on this device; "auto" does where the hardware multiplies it."""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))


@contextmanager
def threads_within_quota(cpu_quota: Path = CPU_QUOTA) -> Iterator[None]:
    """Has torch compute on no more threads than the container's processor quota pays for."""
    before = torch.get_num_threads()
    torch.set_num_threads(usable_processors(before, cpu_quota))
    try:
        yield
    finally:
        torch.set_num_threads(before)
