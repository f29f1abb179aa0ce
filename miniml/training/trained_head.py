"""Keeps the head of the pretrained model where it has the same classes, and initializes a new one otherwise."""

from __future__ import annotations

from typing import Any

import torch

from miniml.model.heads import Head

# The standard deviation of a new layer's weights, where the config names none.
INITIALIZER_RANGE = 0.02
MAX_NAMES = 5


def adopt_head(model: Any, missing: set[str], before: Head, now: Head) -> tuple[set[str], str]:
    """Reorders the classes of a trained head as the data has them, by their names, or initializes a new last layer.

    Args:
        model: A classifier, with the pretrained weights.
        missing: The names of the weights that the folder lacks, or has in another shape.
        before: What the pretrained model answers, according to its config.
        now: What the model will answer.

    Returns:
        The names of the weights that were initialized here, and a remark to log; "" where there is none.
    """
    name, layer = last_linear(model, now.width)
    if layer is None or f"{name}.weight" in missing:
        return set(), ""
    if before.task == now.task and set(before.labels) == set(now.labels):
        with torch.no_grad():
            return set(), now.take_over(before, layer.weight, layer.bias)
    with torch.no_grad():
        layer.weight.normal_(std=getattr(model.config, "initializer_range", None) or INITIALIZER_RANGE)
        if layer.bias is not None:
            layer.bias.zero_()
    return {f"{name}.{weights}" for weights, _ in layer.named_parameters()}, of_other_classes(before, now)


def last_linear(model: Any, width: int) -> tuple[str, torch.nn.Linear | None]:
    """Returns the linear layer that computes the `width` logits, behind its name; None where there is none."""
    encoder = f"{model.base_model_prefix}."
    # Some models list their head before their encoder; within the head, the last layer comes last.
    fitting = [
        (name, part)
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part.out_features == width and not name.startswith(encoder)
    ]
    return fitting[-1] if fitting else ("", None)


def of_other_classes(before: Head, now: Head) -> str:
    """Returns a remark that says why a trained head is replaced."""
    return f"the pretrained head is for {_described(before)}, the data has {_described(now)}: a new head"


def _described(head: Head) -> str:
    if not head.labels:
        return f"a {head.task.one}"
    names = [*map(str, head.labels[:MAX_NAMES]), *["…"] * (len(head.labels) > MAX_NAMES)]
    return f"{len(head.labels)} {head.task.many} ({', '.join(names)})"
