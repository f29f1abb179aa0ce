"""A head that the pretrained model brings: kept where it is for the same classes, or else drawn anew."""

from __future__ import annotations

from typing import Any

import torch

from miniml.model.heads import Head

# The spread of a new layer's weights (a standard deviation), where the config names none.
SPREAD = 0.02
NAMES_TOLD = 5


def adopt_head(model: Any, missing: set[str], before: Head, now: Head) -> tuple[set[str], str]:
    """Maps the classes of a trained head to those of the data, by their names, or draws a new last layer.

    Args:
        model: A classifier, with the pretrained weights.
        missing: The names of those of its weights that the folder lacks, or has of another shape.
        before: What the pretrained config says of its head.
        now: What the model is to answer.

    Returns:
        The names of the weights that were drawn here, and what there is to say of it, if anything.
    """
    name, layer = last_linear(model, now.width)
    if layer is None or f"{name}.weight" in missing:
        return set(), ""
    if before.task == now.task and set(before.labels) == set(now.labels):
        with torch.no_grad():
            return set(), now.take_over(before, layer.weight, layer.bias)
    with torch.no_grad():
        layer.weight.normal_(std=getattr(model.config, "initializer_range", None) or SPREAD)
        if layer.bias is not None:
            layer.bias.zero_()
    return {f"{name}.{weights}" for weights, _ in layer.named_parameters()}, of_other_classes(before, now)


def last_linear(model: Any, width: int) -> tuple[str, torch.nn.Linear | None]:
    """The linear layer with `width` outputs whose outputs are the logits, and its name."""
    encoder = f"{model.base_model_prefix}."
    # Some models list their head before their encoder; a head's own last layer is the last of it.
    fitting = [
        (name, part)
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part.out_features == width and not name.startswith(encoder)
    ]
    return fitting[-1] if fitting else ("", None)


def of_other_classes(before: Head, now: Head) -> str:
    """Why a trained head is not kept."""
    return f"the pretrained head is for {_told(before)}, the data has {_told(now)}: a new head"


def _told(head: Head) -> str:
    if not head.labels:
        return f"a {head.task.one}"
    names = [*map(str, head.labels[:NAMES_TOLD]), *["…"] * (len(head.labels) > NAMES_TOLD)]
    return f"{len(head.labels)} {head.task.many} ({', '.join(names)})"
