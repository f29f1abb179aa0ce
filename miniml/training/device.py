"""Chooses the device and the precision of a training."""

from __future__ import annotations

import torch

from miniml.errors import InputError
from miniml.processor import BF16_CAPABILITY, has_bf16


def choose_device(device: str) -> torch.device:
    """Returns the torch device of that name; "auto" takes the fastest one of this machine.

    Raises:
        InputError: this machine has no such device.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.append("mps")
    available += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if device == "auto":
        device = available[-1]
    name = "cuda:0" if device == "cuda" else device
    if name not in available:
        raise InputError(
            f"device {device!r} is not on this machine; torch sees: {', '.join(available)}. Set device to one of them."
        )
    return torch.device(name)


def computes_in_bf16(device: torch.device, precision: str) -> bool:
    """Tells whether `precision` means bfloat16 on this device; "auto" does if the hardware multiplies bfloat16."""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))


def why_not_bf16(device: torch.device, precision: str) -> str:
    """Returns the reason why "auto" computes in fp32 on a GPU, in parentheses, for the log; "" elsewhere."""
    if device.type != "cuda" or precision != "auto" or has_bf16(device):
        return ""
    least = ".".join(map(str, BF16_CAPABILITY))
    return f" (bf16 takes a GPU of compute capability {least} or above)"
