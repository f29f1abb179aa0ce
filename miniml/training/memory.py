"""Estimates the memory that a training needs, so that one that does not fit is refused before its first step.

The estimate is the peak of a step: the weights (4 bytes a parameter); for trainable ones also a gradient (4), AdamW's
two moments (8) and, in main memory, the copy of the best so far (4); in bf16 also the copy that autocast makes (2); and
the activations that the backward pass needs. It was compared with measurements on two CPU cores: the peak resident size
(`ru_maxrss`) above that of the process with its libraries, without the copy of the best.

| model, texts × tokens in a pass | precision, dropout | measured | estimated |
|---|---|---|---|
| MiniLM-L6, 16 × 64 | fp32, 0 | 0.52 GiB | 0.57 GiB |
| MiniLM-L6, 16 × 256 | fp32, 0 | 1.02 GiB | 1.07 GiB |
| MiniLM-L6, 8 × 512 | fp32, 0 | 1.04 GiB | 1.07 GiB |
| MiniLM-L6, 8 × 512 | fp32, 0.1 | 3.02 GiB | 3.15 GiB |
| MiniLM-L6, 32 × 256 | fp32, 0 | 1.68 GiB | 1.74 GiB |
| MiniLM-L6, 16 × 64 | bf16, 0 | 0.48 GiB | 0.55 GiB |
| MiniLM-L6, 16 × 256 | bf16, 0 | 0.83 GiB | 0.88 GiB |
| MiniLM-L6, 8 × 512 | bf16, 0.1 | 2.79 GiB | 2.96 GiB |
| MiniLM-L6, 32 × 256 | bf16, 0 | 1.34 GiB | 1.31 GiB |
| bert-base, 16 × 64 | fp32, 0 | 2.04 GiB | 2.36 GiB |
| bert-base, 16 × 256 | fp32, 0 | 3.94 GiB | 4.37 GiB |
| bert-base, 8 × 512 | fp32, 0 | 3.93 GiB | 4.37 GiB |
| bert-base, 8 × 512 | fp32, 0.1 | 8.25 GiB | 8.53 GiB |
| bert-base, 32 × 256 | fp32, 0 | 6.50 GiB | 7.04 GiB |
| bert-base, 16 × 64 | bf16, 0 | 2.11 GiB | 2.33 GiB |
| bert-base, 16 × 256 | bf16, 0 | 3.36 GiB | 3.63 GiB |
| bert-base, 32 × 256 | bf16, 0 | 5.15 GiB | 5.37 GiB |
| 1024 wide, 6 layers, 16 × 256 | fp32, 0 | 3.08 GiB | 3.46 GiB |
| 256 wide, 12 layers, 16 × 256 | fp32, 0 | 1.09 GiB | 0.98 GiB |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from miniml.errors import InputError
from miniml.settings.choices import LAST
from miniml.settings.training import TrainingSettings
from miniml.training.batches import tokens_in_pass
from miniml.training.trainable import encoder_layers

GIB = 2**30
CGROUP = Path("/sys/fs/cgroup")

# Bytes that libraries allocate for themselves in the first step.
LIBRARY_BYTES = 64 * 2**20
# Activations that a layer keeps for each token: eleven hidden states, and the wide ones before and after their
# activation function. The bytes of each, by whether the training is in bf16, where the layer norms' stay in fp32.
HIDDEN_STATES, WIDE_STATES = 11, 2
BYTES_OF_STATE = {False: 4.0, True: 2.6}
# The estimate was never compared with a GPU's, whose allocator leaves gaps, too.
SHARE_OF_GPU = 0.9
# Dropout needs the slow attention kernel, which keeps the scores of all pairs of tokens.
SCORES_KEPT, BYTES_OF_SCORE = 3.7, 4


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory that a training needs on its device, in bytes."""

    fixed: int
    """The bytes that do not depend on the batch."""
    state: float
    """The bytes for each token of a pass."""
    score: float
    """The bytes for each pair of tokens of a text."""

    def of(self, texts: int, length: int, budget: int) -> float:
        """Returns the bytes that a step needs.

        Args:
            texts: The texts of the step.
            length: The tokens of each text.
            budget: The tokens of a pass, at most; a longer text makes a pass of its own.
        """
        tokens = min(texts * length, max(budget, length))
        return self.fixed + tokens * (self.state + self.score * length)


def demand(model: Any, bf16: bool, copies_in_memory: bool, dropout: float) -> MemoryEstimate:
    """Estimates the memory for training the weights of `model` that require a gradient.

    Args:
        model: A classifier of transformers.
        bf16: Whether it trains in bfloat16.
        copies_in_memory: Whether the copy of the best weights is in the same memory.
        dropout: The dropout rate.
    """
    config = model.config
    parameters = sum(weights.numel() for weights in model.parameters())
    learning = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    fixed = parameters * (6 if bf16 else 4) + learning * (16 if copies_in_memory else 12) + LIBRARY_BYTES
    hidden = getattr(config, "hidden_size", None) or 0
    wide = getattr(config, "intermediate_size", None) or 4 * hidden
    layers = (getattr(config, "num_hidden_layers", None) or 0) * share_of_layers_in_backward_pass(model)
    scores = layers * (getattr(config, "num_attention_heads", None) or 0) if dropout else 0
    return MemoryEstimate(
        fixed,
        layers * (HIDDEN_STATES * hidden + WIDE_STATES * wide) * BYTES_OF_STATE[bf16],
        scores * SCORES_KEPT * BYTES_OF_SCORE,
    )


def require_memory(
    model: Any, length: int, device: torch.device, bf16: bool, settings: TrainingSettings, free: int
) -> int:
    """Checks, before the first step, that a training fits into memory. On a GPU, passes are made small enough to.

    Args:
        model: A classifier of transformers, with the weights to train requiring a gradient.
        length: The tokens of the longest text.
        device: The device that it trains on.
        bf16: Whether it trains in bfloat16.
        settings: The settings of the training.
        free: The free memory of the device, in bytes.

    Returns:
        The padded tokens in one forward and backward pass, at most.

    Raises:
        InputError: the training needs more. The message says how much, how much is free, and what would fit.
    """
    texts, budget = settings.batch_size, tokens_in_pass(device)
    copies = device.type == "cpu" and settings.best_by != LAST
    needed = demand(model, bf16, copies, settings.dropout)
    if device.type == "cuda":
        free = int(SHARE_OF_GPU * free)
        while budget > 1 and needed.of(texts, length, budget) > free:
            budget //= 2
    if (peak := needed.of(texts, length, budget)) > free:
        raise InputError(
            f"batch_size {texts} at {length} tokens needs about {peak / GIB:.1f} GiB, {free / GIB:.1f} are free: "
            f"{_remedy(needed, length, budget, free, settings)}."
        )
    return budget


def memory_for(model: Any, device: torch.device) -> int:
    """Returns the bytes that a training of `model`, which is in main memory already, may use on `device`."""
    already_loaded = sum(weights.numel() * weights.element_size() for weights in model.parameters())
    return free_memory(device) + (already_loaded if device.type == "cpu" else 0)


def free_memory(device: torch.device, cgroup: Path | None = None) -> int:
    """Returns the free memory of `device` in bytes.

    Args:
        device: A GPU, or the CPU, for which the limit of the container counts as well.
        cgroup: The folder of the container's control group (version 2); None takes `CGROUP`.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    cgroup = cgroup or CGROUP
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except OSError:
        return free
    # The kernel frees inactive pages of files when memory is needed.
    return free if limit == "max" else min(free, int(limit) - used + int(stat["inactive_file"]))


def _remedy(needed: MemoryEstimate, length: int, budget: int, free: int, settings: TrainingSettings) -> str:
    texts = settings.batch_size
    remedies = [
        f"{name} ({value} fits)"
        for name, value in (
            ("batch_size", _largest(texts, lambda fewer: needed.of(fewer, length, budget) <= free)),
            ("max_length", _largest(length, lambda shorter: needed.of(texts, shorter, budget) <= free)),
        )
        if value >= (8 if name == "max_length" else 1)
    ]
    if remedies:
        return f"lower {' or '.join(remedies)}"
    if settings.lora_rank or settings.frozen_layers < 0:
        return "take a smaller model_id, or a machine with more memory"
    return "set lora_rank to 8, take a smaller model_id, or a machine with more memory"


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Returns the largest number below `limit` that fits, or 0 if none does."""
    return next((number for number in range(limit - 1, 0, -1) if fits(number)), 0)


def share_of_layers_in_backward_pass(model: Any) -> float:
    """Returns the share of layers from the lowest trainable one upwards; those below keep no activations."""
    layers = encoder_layers(model)
    below = model.base_model.get_input_embeddings().parameters()
    if not layers or any(weights.requires_grad for weights in below):
        return 1.0
    frozen = 0
    while frozen < len(layers) and not any(weights.requires_grad for weights in layers[frozen].parameters()):
        frozen += 1
    return 1 - frozen / len(layers)
