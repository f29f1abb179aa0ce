"""Chooses the weights to train: all of them, those of the upper layers, or the adapters of LoRA."""

from __future__ import annotations

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from miniml.errors import InputError, TrainingError
from miniml.model.classifier import made_up, padded
from miniml.model.rows_apart import logits_of_rows
from miniml.settings.training import TrainingSettings


def choose_trainable(model: Any, new: set[str], settings: TrainingSettings) -> Any:
    """Sets which weights of a model are trained.

    Args:
        model: A classifier of transformers; it is changed.
        new: The names of the randomly initialized weights, which are always trained.
        settings: Their `lora_rank` and `frozen_layers` decide.

    Returns:
        The model with LoRA's adapters, for `merged`, or None if it has none.

    Raises:
        InputError: LoRA needs the package peft, which is not installed.
        TrainingError: the model has fewer layers than are to be frozen.
    """
    adapted = None
    if settings.lora_rank:
        adapted = _with_adapters(model, new, settings)
    elif settings.frozen_layers < 0:
        model.base_model.requires_grad_(False)
    elif settings.frozen_layers:
        _freeze_lowest(model, settings)
    for name, weights in model.named_parameters():
        if name in new:
            weights.requires_grad_(True)
    return adapted


def merged(model: Any, adapted: Any) -> Any:
    """Returns `model` with the adapters, as `choose_trainable` gave them, added to its own weights."""
    return model if adapted is None else adapted.merge_and_unload()


def leaves_weights_out(model: Any, tokenizer: Any) -> bool:
    """Tells whether a text may give some trainable weights no gradient.

    These are weights of one of several experts, of a layer that LayerDrop may skip, or of a part that does not
    contribute to the logits. The shortest possible text is tried, since it reaches the fewest experts. The model is
    left in evaluation mode.
    """
    if any(value for name, value in model.config.to_dict().items() if "layerdrop" in name):
        return True
    texts = padded(tokenizer, made_up(tokenizer, 0))
    ids, mask = (torch.from_numpy(array).to(model.device) for array in texts)
    logits = logits_of_rows(model.eval(), model.config, ids, mask)
    trainable = [weights for weights in model.parameters() if weights.requires_grad]
    return None in torch.autograd.grad(logits.sum(), trainable, allow_unused=True)


def encoder_layers(model: Any) -> torch.nn.ModuleList:
    """Returns the encoder's layers, from the lowest: in transformers' models, its longest list of modules."""
    lists = [part for part in model.base_model.modules() if isinstance(part, torch.nn.ModuleList)]
    return max(lists, key=len, default=torch.nn.ModuleList())


def _freeze_lowest(model: Any, settings: TrainingSettings) -> None:
    """Freezes the embeddings and the lowest `frozen_layers` layers of the encoder."""
    encoder, layers = model.base_model, encoder_layers(model)
    if settings.frozen_layers > len(layers):
        raise TrainingError(
            f"frozen_layers is {settings.frozen_layers}, but {settings.model_id!r} has {len(layers)} layers. "
            f"Give at most that many."
        )
    # All embeddings are frozen, or the backward pass would go through all layers to reach the rest.
    embeddings = [
        part for part in encoder.children() if _has(part, torch.nn.Embedding) and layers not in part.modules()
    ]
    for frozen in (*embeddings, *layers[: settings.frozen_layers]):
        frozen.requires_grad_(False)


def _has(module: torch.nn.Module, module_type: type[torch.nn.Module]) -> bool:
    return any(isinstance(part, module_type) for part in module.modules())


def _with_adapters(model: Any, new: set[str], settings: TrainingSettings) -> Any:
    """Adds an adapter to each linear layer of the encoder, in `model` itself, and freezes all other weights."""
    try:
        import peft  # Only here: it is slow to import, and few trainings need it.
    except ImportError as error:
        raise InputError(
            f"lora_rank is {settings.lora_rank}, which needs the package peft. Install miniml[lora], or set it to 0."
        ) from error
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and f"{name}.weight" not in new
    ]
    # alpha is proportional to the rank, so that a learning rate for one rank is right for another.
    adapters = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=settings.dropout,
        target_modules=linear,
    )
    return peft.LoraModel(model, adapters, "default")
