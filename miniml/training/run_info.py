"""What a run turned out to be: what `auto` came to, the machine, and how much of model and texts took part."""

from __future__ import annotations

import platform

import torch
from transformers import TrainingArguments

from miniml import processor
from miniml.training.batches import EncodedTexts


def what_was_used(
    arguments: TrainingArguments, device: torch.device, max_length: int
) -> dict[str, str | int]:
    """What the arguments leave to the machine and the model, in words and numbers to be shown."""
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
    """The share of texts of `max_length` tokens or more, of which the rest was cut, if there was any."""
    return float((texts.lengths >= max_length).mean())
