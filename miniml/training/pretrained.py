"""Finds a pretrained encoder, and makes of it the classifier that is to be trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from miniml import hub
from miniml.errors import InputError
from miniml.progress import note
from miniml.settings import TrainingSettings
from miniml.sources import HubId, S3Address, locate

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")

# The names under which the common encoders' configurations keep their dropout rates.
DROPOUT_NAMES = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
)


def find_pretrained(model_id: str) -> tuple[Path, str]:
    """The folder of a pretrained model, fetched from the hub or an S3 store if it has to be.

    The second result is `model_id` again, with the digest of the content where it came from an S3 store.

    Raises:
        InputError: there is no such folder, or it holds no weights.
        HubError: the hub did not give it.
        StoreError: the S3 store did not give it.
    """
    source, told = locate("model_id", model_id), model_id
    if isinstance(source, HubId):
        folder = hub.fetch_model(source)
    elif isinstance(source, S3Address):
        from miniml import store  # Only here: a model from elsewhere needs no S3 client.

        fetched = store.cached("model_id", source)
        folder, told = fetched.path, fetched.source
    else:
        folder = source
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = f"it has: {', '.join(names[:8]) or 'nothing'}"
    if "config.json" not in names:
        raise InputError(
            f"model_id {model_id!r}: {folder} is no model folder, for it has no config.json; {found}. "
            f"Give a folder that save_pretrained wrote, or a hub id."
        )
    if not set(WEIGHTS) & set(names):
        raise InputError(
            f"model_id {model_id!r}: {folder} has no weights ({WEIGHTS[0]}); {found}. "
            f"Copy them there, or give a hub id."
        )
    return folder, told


def load(folder: Path, labels: list[str], settings: TrainingSettings) -> tuple[Any, Any]:
    """The tokenizer and the model in `folder`, the latter with a head for `labels`.

    Raises:
        InputError: it is no text classifier, nor can be made one.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        config.num_labels = len(labels)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}
        config.problem_type = "single_label_classification"
        for name in DROPOUT_NAMES:
            if hasattr(config, name):
                setattr(config, name, settings.dropout)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # A checkpoint with a head of other classes keeps its encoder and gets a new head.
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, local_files_only=True, ignore_mismatched_sizes=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"model_id {settings.model_id!r} does not load as a text classifier ({error}). "
            f"Give an encoder that transformers' AutoModelForSequenceClassification knows."
        ) from error
    if tokenizer.pad_token is None:  # Decoders are trained without padding.
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.truncation_side = settings.truncation_side
    tokenizer.model_max_length = _max_length(tokenizer, model, settings)
    return tokenizer, model


def freeze(model: Any, settings: TrainingSettings) -> None:
    """Leaves the embeddings and the lowest `frozen_layers` encoder layers as they are."""
    if not settings.frozen_layers:
        return
    encoder = model.base_model
    # In every encoder of transformers the layers are the one long list of modules.
    lists = [part for part in encoder.modules() if isinstance(part, torch.nn.ModuleList)]
    layers = max(lists, key=len, default=torch.nn.ModuleList())
    if settings.frozen_layers > len(layers):
        raise InputError(
            f"frozen_layers is {settings.frozen_layers}, but {settings.model_id!r} has {len(layers)} layers. "
            f"Give at most that many."
        )
    for frozen in (encoder.get_input_embeddings(), *layers[: settings.frozen_layers]):
        frozen.requires_grad_(False)


def _max_length(tokenizer: Any, model: Any, settings: TrainingSettings) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or math.inf
    limit = min(tokenizer.model_max_length, positions)
    if settings.max_length > limit:
        note(f"max_length {settings.max_length} is more than the model takes: cutting at {limit:.0f} tokens")
    return int(min(settings.max_length, limit))
