"""Makes a model with fewer encoder layers of a full one, for a training that learns the full model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from miniml.compression.derived_model import copy_model
from miniml.errors import InputError
from miniml.files.folders import written_whole
from miniml.model import engines, manifest
from miniml.model.classifier import Classifier
from miniml.model.engines import TorchEngine
from miniml.model.history import HISTORY_NAME
from miniml.model.model_files import in_a_line

LAYERS = "num_hidden_layers"
"""The number of layers in transformers' configs, each of which maps it to a name of its own."""
GROUPS = "num_hidden_groups"
"""ALBERT's number of layers with weights of their own, which the other layers repeat."""
BY_LAYER = ("layer", "attention_window")
"""Parts of the names under which configs have a list with an entry for each layer."""
TRIED_LENGTHS = (5, 12)
"""The tokens of the texts on which a cut model is compared with the layers that it was made of."""
NO_NUMBER = "its config has no number of layers"
# What is the full model, and how its training went.
NOT_KEPT = ("config.json", "model*.safetensors*", engines.EXPORTED.parts[0], HISTORY_NAME)


class UncuttableError(InputError):
    """A model's architecture does not work with fewer layers."""


def spread(layers: int, kept: int) -> tuple[int, ...]:
    """Returns which layers to keep, numbered from 0: the first, the last, and others evenly between them.

    6 of BERT's 12 layers are those that DistilBERT began with (Sanh et al., https://arxiv.org/abs/1910.01108).

    Args:
        layers: The number of layers of the full model.
        kept: The number of layers to keep; if it is 1, the last one is kept.
    """
    if kept == 1:
        return (layers - 1,)
    return tuple(round(place * (layers - 1) / (kept - 1)) for place in range(kept))


def number_of_layers(model_dir: Path) -> int:
    """Returns the number of encoder layers of a model folder, according to its config; 0 where that has none."""
    return _layers_of(_config_of(model_dir))


def require_layers(model_dir: Path) -> int:
    """Returns the number of encoder layers of a model folder, according to its config.

    Raises:
        UncuttableError: its config has no such number.
    """
    config = _config_of(model_dir)
    if not (layers := _layers_of(config)):
        raise _uncuttable(config, NO_NUMBER)
    return layers


def _config_of(model_dir: Path) -> Any:
    return AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)


def keep_layers(model_dir: Path, kept: Sequence[int], folder: Path) -> manifest.Manifest:
    """Writes a model folder with some of the encoder layers of another one, and everything else of it.

    The new folder is signed, and predicts. As nothing was measured on it, it has neither metrics nor a temperature, and
    it has no export. It records the texts that the full model has learnt.

    Args:
        model_dir: The full model's folder.
        kept: The numbers of the layers, ascending, from 0.
        folder: The folder to write.

    Returns:
        The manifest of the new folder.

    Raises:
        UncuttableError: the model's architecture does not work with these layers alone.
        ModelFolderError: the full model's folder has changed, or cannot be loaded.
    """
    full = Classifier.load(model_dir)
    smaller = cut(full, kept)
    signed = full.manifest
    with written_whole(folder, manifest.OUTPUT_NAMES) as partial:
        copy_model(model_dir, partial, *NOT_KEPT)
        smaller.save_pretrained(partial)
        arguments = {**signed.arguments, "cut_from": {"digest": signed.digest, "layers": list(kept)}}
        return manifest.sign(
            partial, data=signed.data, arguments=arguments, versions=signed.versions, metrics={}
        )


def cut(full: Classifier, kept: Sequence[int]) -> Any:
    """Returns a model of the same class with some of the encoder layers, and with all other weights.

    Args:
        full: The full model on the reference engine; it loses its other layers.
        kept: The numbers of the layers, ascending, from 0.

    Raises:
        UncuttableError: the architecture does not work with these layers alone.
    """
    assert isinstance(full.engine, TorchEngine)
    model = full.engine.model
    stacks = _stacks(model)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = (
            False  # The cache is kept by the layers' old numbers, and serves generation only.
        )
    try:
        smaller = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            _config_with(model.config, kept), dtype=torch.float32, trust_remote_code=False
        ).eval()
        smaller.load_state_dict(_weights_of(model, stacks, kept))
        _drop_layers(model, stacks, kept)
        texts = full.made_up(*TRIED_LENGTHS)
        wanted, found = (full.on(TorchEngine("", each)).logits(texts) for each in (model, smaller))
    except Exception as error:  # Libraries raise anything where a model is not what they expect.
        raise _uncuttable(
            model.config,
            f"its classifier does not work with {len(kept)} of its layers ({in_a_line(error, 120)})",
        ) from error
    if not np.allclose(wanted, found, rtol=1e-4, atol=1e-5):
        raise _uncuttable(model.config, "what a layer computes depends on its place among the others")
    return smaller


def _layers_of(config: Any) -> int:
    layers = getattr(config, LAYERS, None)
    return layers if isinstance(layers, int) else 0


def _stacks(model: Any) -> list[str]:
    """Returns the names of the lists that have a module for each layer; ALBERT, whose layers are one, has none.

    Raises:
        UncuttableError: the model is no stack of layers, each of which reads what the one below gives.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise _uncuttable(model.config, "it has a decoder besides the encoder")
    layers = _layers_of(model.config)
    if not layers:
        raise _uncuttable(model.config, NO_NUMBER)
    found: list[str] = []
    for name, part in model.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(part, torch.nn.ModuleList) and len(part) == layers and not inner:
            found.append(name)
    if not found and getattr(model.config, GROUPS, 0) != 1:
        raise _uncuttable(model.config, f"it has no list of {layers} layers")
    return found


def _weights_of(model: Any, stacks: Sequence[str], kept: Sequence[int]) -> dict[str, torch.Tensor]:
    """Returns the weights of the kept layers under their new numbers, and all weights that belong to no layer."""
    found = {}
    for name, weights in model.state_dict().items():
        stack = next((stack for stack in stacks if name.startswith(f"{stack}.")), None)
        if stack is None:
            found[name] = weights
            continue
        number, _, rest = name.removeprefix(f"{stack}.").partition(".")
        if int(number) in kept:
            found[f"{stack}.{kept.index(int(number))}.{rest}"] = weights
    return found


def _config_with(config: Any, kept: Sequence[int]) -> Any:
    """Returns the config of a model with these layers: their number, and their entries in lists by layer."""
    settings = config.to_dict()
    layers = getattr(config, LAYERS)
    for name, value in settings.items():
        if isinstance(value, list) and len(value) == layers and any(part in name for part in BY_LAYER):
            settings[name] = [value[number] for number in kept]
    settings[config.attribute_map.get(LAYERS, LAYERS)] = len(kept)
    return type(config).from_dict(settings)


def _drop_layers(model: Any, stacks: Sequence[str], kept: Sequence[int]) -> None:
    """Drops the other layers; those that stay still know their old numbers, unlike the layers of a new model."""
    for name in stacks:
        stack = model.get_submodule(name)
        model.set_submodule(name, torch.nn.ModuleList([stack[number] for number in kept]))
    setattr(model.config, LAYERS, len(kept))


def _uncuttable(config: Any, reason: str) -> UncuttableError:
    return UncuttableError(
        f"a model of the type {config.model_type} cannot be given fewer layers: {reason}. Set compression to 'length', "
        f"which keeps them all, or to 'none'."
    )
