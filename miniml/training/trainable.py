"""Which weights learn: all of them, those of the upper layers, or a few that are put beside them (LoRA)."""

from __future__ import annotations

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from miniml.errors import InputError, TrainingError
from miniml.model.classifier import made_up, padded
from miniml.model.rows_apart import logits_of_rows
from miniml.settings.training import TrainingSettings


def choose_trainable(model: Any, new: set[str], settings: TrainingSettings) -> Any:
    """Sets which weights of `model` learn; those named `new` always do. What it gives is for `merged`.

    Raises:
        InputError: the model has no such layers.
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
    """`model` with nothing beside its own weights: what was put there has been added to them."""
    return model if adapted is None else adapted.merge_and_unload()


def leaves_weights_out(model: Any, tokenizer: Any) -> bool:
    """Whether a text may pass by weights that learn: one of several experts, a layer that is dropped by chance, or a
    part that classifies nothing.

    Looked for on the shortest text that there is, which goes to the fewest experts. The model is left in evaluation
    mode, in which nothing is drawn by chance.
    """
    if any(value for name, value in model.config.to_dict().items() if "layerdrop" in name):
        return True
    texts = padded(tokenizer, made_up(tokenizer, 0))
    ids, mask = (torch.from_numpy(array).to(model.device) for array in texts)
    logits = logits_of_rows(model.eval(), model.config, ids, mask)
    learning = [weights for weights in model.parameters() if weights.requires_grad]
    return None in torch.autograd.grad(logits.sum(), learning, allow_unused=True)


def encoder_layers(model: Any) -> torch.nn.ModuleList:
    """The encoder's layers, the lowest first. In all of transformers' they are the one long list of modules."""
    lists = [part for part in model.base_model.modules() if isinstance(part, torch.nn.ModuleList)]
    return max(lists, key=len, default=torch.nn.ModuleList())


def _freeze_lowest(model: Any, settings: TrainingSettings) -> None:
    """Leaves the embeddings and the lowest `frozen_layers` encoder layers as they are."""
    encoder, layers = model.base_model, encoder_layers(model)
    if settings.frozen_layers > len(layers):
        raise TrainingError(
            f"frozen_layers is {settings.frozen_layers}, but {settings.model_id!r} has {len(layers)} layers. "
            f"Give at most that many."
        )
    # All of the embeddings, or gradients would still have to find their way down to the rest of them.
    embeddings = [
        part for part in encoder.children() if _has(part, torch.nn.Embedding) and layers not in part.modules()
    ]
    for frozen in (*embeddings, *layers[: settings.frozen_layers]):
        frozen.requires_grad_(False)


def _has(module: torch.nn.Module, kind: type[torch.nn.Module]) -> bool:
    return any(isinstance(part, kind) for part in module.modules())


def _with_adapters(model: Any, new: set[str], settings: TrainingSettings) -> Any:
    """Puts two matrices beside each linear layer of the encoder, in `model` itself, and freezes all else."""
    try:
        import peft  # Only here: it is slow to import, and few trainings need it.
    except ImportError as error:
        raise InputError(
            f"lora_rank is {settings.lora_rank}, which takes the package peft. Install miniml[lora], or set it to 0."
        ) from error
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and f"{name}.weight" not in new
    ]
    adapters = peft.LoraConfig(
        r=settings.lora_rank,
        # The product of the two matrices counts twice, whatever their rank: a learning rate found for one rank will
        # do for another.
        lora_alpha=2 * settings.lora_rank,
        lora_dropout=settings.dropout,
        target_modules=linear,
    )
    return peft.LoraModel(model, adapters, "default")
