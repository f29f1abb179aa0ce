"""Describes how a training ran: the device and the precision that `auto` chose, the machine, and how texts were cut."""

from __future__ import annotations

import platform

import torch
from transformers import TrainingArguments

from miniml import processor
from miniml.training.batches import EncodedTexts


def what_was_used(
    arguments: TrainingArguments, device: torch.device, max_length: int
) -> dict[str, str | int]:
    """Returns what the machine and the model decide where the arguments do not, for people to read.

    Args:
        arguments: The arguments of transformers' Trainer.
        device: The device of the training.
        max_length: The tokens to which texts were cut.
    """
    on_gpu = device.type == "cuda"
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else processor.name(),
        "precision": "bf16" if arguments.bf16 else "fp32",
        "processes": arguments.world_size,
        "threads": torch.get_num_threads(),
        "max_length": max_length,
        "system": f"{platform.system()} {platform.machine()}",
    }


def texts_cut(texts: EncodedTexts, max_length: int) -> float:
    """Returns the fraction of texts with at least `max_length` tokens, which may have been cut."""
    return float((texts.lengths >= max_length).mean())
