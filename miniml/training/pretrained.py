"""Finds a pretrained encoder, and makes of it a classifier that is to be trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from miniml import heads, hub
from miniml.errors import InputError
from miniml.heads import Head
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


def find_pretrained(model_id: str, from_scratch: bool = False) -> tuple[Path, str]:
    """The folder of a pretrained model, fetched from the hub or an S3 store if it has to be.

    A model that is to learn `from_scratch` needs no weights there, and the hub is not asked for them.

    The second result is `model_id` again, with the digest of the content where it came from an S3 store.

    Raises:
        InputError: there is no such folder, or it holds no weights.
        HubError: the hub did not give it.
        StoreError: the S3 store did not give it.
    """
    source, told = locate("model_id", model_id), model_id
    if isinstance(source, HubId):
        folder = hub.fetch_model(source, weights=not from_scratch)
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
    if not from_scratch and not set(WEIGHTS) & set(names):
        raise InputError(
            f"model_id {model_id!r}: {folder} has no weights ({WEIGHTS[0]}); {found}. "
            f"Copy them there, give a hub id, or set from_scratch to draw new ones."
        )
    return folder, told


@dataclass(frozen=True)
class Pretrained:
    """What of a pretrained model is the same in every training of it."""

    folder: Path
    config: Any
    """Of the classifier that is to come of it."""
    tokenizer: Any
    settings: TrainingSettings

    @classmethod
    def load(cls, folder: Path, head: Head, settings: TrainingSettings) -> Pretrained:
        """Reads configuration and tokenizer, and makes the former that of a model for `head`.

        Raises:
            InputError: they are of no text classifier, or of nothing that can be made one.
        """
        with _explained(settings):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        heads.keep(config, head)
        for name in DROPOUT_NAMES:
            if hasattr(config, name):
                setattr(config, name, settings.dropout)
        if tokenizer.pad_token is None:  # Decoders are trained without padding.
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.truncation_side = settings.truncation_side
        tokenizer.model_max_length = _max_length(tokenizer, config, settings)
        tokenizer("", truncation=True)  # A fast one keeps from this where to cut.
        return cls(folder, config, tokenizer, settings)

    def classifier(self) -> tuple[Any, set[str], set[str]]:
        """A model to train, in float32, and the names of some of its weights.

        First those that have to learn whatever else does: the head's, and those that the folder lacks. Then those that
        torch's random numbers have drawn: these, unless the folder has a head for the same classes.

        Raises:
            InputError: transformers knows no classifier of this kind.
        """
        with _explained(self.settings):
            model, drawn = self._from_scratch() if self.settings.from_scratch else self._from_weights()
        model.config.pad_token_id = self.tokenizer.pad_token_id
        encoder = f"{model.base_model_prefix}."
        head = {name for name, _ in model.named_parameters() if not name.startswith(encoder)}
        return model, head | drawn, drawn

    def _from_scratch(self) -> tuple[Any, set[str]]:
        model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            self.config, dtype=torch.float32
        )
        return model, {name for name, _ in model.named_parameters()}

    def _from_weights(self) -> tuple[Any, set[str]]:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            self.folder,
            config=self.config,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # A head of other classes is replaced by a new one.
            dtype=torch.float32,
            output_loading_info=True,
        )
        return model, set(found["missing_keys"]) | {name for name, *_ in found["mismatched_keys"]}


@contextmanager
def _explained(settings: TrainingSettings) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"model_id {settings.model_id!r} does not load as a text classifier ({error}). "
            f"Give an encoder that transformers' AutoModelForSequenceClassification knows."
        ) from error


def _max_length(tokenizer: Any, config: Any, settings: TrainingSettings) -> int:
    positions = getattr(config, "max_position_embeddings", None) or math.inf
    if positions < 0:  # XLNet's: any number of them.
        positions = math.inf
    limit = min(tokenizer.model_max_length, positions)
    if settings.max_length > limit:
        note(f"max_length {settings.max_length} is more than the model takes: cutting at {limit:.0f} tokens")
    return int(min(settings.max_length, limit))
