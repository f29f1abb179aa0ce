"""Chooses the device and the precision of a training."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from miniml.errors import InputError
from miniml.processor import BF16_CAPABILITY, has_bf16, why_no_gpu
from miniml.progress import logger

CPU, MPS, CUDA, AUTO = "cpu", "mps", "cuda", "auto"


def choose_device(device: str) -> torch.device:
    """Returns the torch device of that name; "auto" takes the fastest one of this machine.

    Of several processes that torchrun started on this machine, each takes a GPU of its own.

    Raises:
        InputError: this machine has no such device.
    """
    no_gpu = why_no_gpu()
    available = [CPU]
    if torch.backends.mps.is_available():
        available.append(MPS)
    if not no_gpu:
        available += [f"{CUDA}:{number}" for number in range(torch.cuda.device_count())]
    rank = os.environ.get("LOCAL_RANK")
    name = device_named(device, available, None if rank is None else int(rank))
    if name not in available:
        reason = f" ({no_gpu})" if no_gpu and name.startswith(CUDA) else ""
        raise InputError(
            f"device {device!r} is not on this machine; torch sees: {', '.join(available)}{reason}. Set device to one "
            f"of them."
        )
    if device == AUTO and name == CPU and torch.version.cuda:
        logger.info(f"device {AUTO} is {CPU}: {no_gpu}")
    return torch.device(name)


def device_named(device: str, available: Sequence[str], local_rank: int | None = None) -> str:
    """Returns the name of the device that is meant, which may not be among those available.

    Args:
        device: What the settings say.
        available: The devices of this machine. CUDA counts its GPUs from the fastest on.
        local_rank: The rank of this process on its machine, if torchrun started it; it computes on the GPU of that
            number, whichever the settings name.
    """
    if device == AUTO:
        # A GPU is faster than Apple's, and that than the processor.
        kinds = {name.partition(":")[0] for name in available}
        device = next(kind for kind in (CUDA, MPS, CPU) if kind in kinds)
    if not device.startswith(CUDA):
        return device
    if local_rank is not None:
        return f"{CUDA}:{local_rank}"
    return f"{CUDA}:0" if device == CUDA else device


def same_or_fastest(device: str) -> str:
    """Returns the name of the device, or of the fastest one of this machine where it has no such device.

    Args:
        device: The device of a training that may have run elsewhere.
    """
    try:
        choose_device(device)
    except InputError:
        fastest = str(choose_device(AUTO))
        logger.info(f"the training's device {device} is not here: computing on {fastest}")
        return fastest
    return device


def computes_in_bf16(device: torch.device, precision: str) -> bool:
    """Tells whether `precision` means bfloat16 on this device; "auto" does if the hardware multiplies bfloat16."""
    return precision == "bf16" or (precision == "auto" and has_bf16(device))


def why_not_bf16(device: torch.device, precision: str) -> str:
    """Returns the reason why "auto" computes in fp32 on a GPU, in parentheses, for the log; "" elsewhere."""
    if device.type != "cuda" or precision != "auto" or has_bf16(device):
        return ""
    least = ".".join(map(str, BF16_CAPABILITY))
    return f" (bf16 takes a GPU of compute capability {least} or above)"
