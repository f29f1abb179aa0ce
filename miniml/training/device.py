"""Where a training computes, in which precision, and on how many threads."""

from __future__ import annotations

import torch

from miniml.errors import InputError
from miniml.processor import has_bf16


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
