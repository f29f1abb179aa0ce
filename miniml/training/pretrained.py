"""Finds a pretrained encoder, and turns it into a classifier to train."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from miniml.errors import InputError, MinimlError
from miniml.model.heads import Head, read_head, write_head
from miniml.model.model_files import WEIGHTS, in_a_line, trouble_with, trouble_with_tokenizer
from miniml.model.rows_apart import ONE_LENGTH
from miniml.progress import logger
from miniml.settings.training import TrainingSettings
from miniml.sources.address import locate
from miniml.training.model_check import UnusableModelError, check_model
from miniml.training.trained_head import adopt_head, of_other_classes

# The layer of BERT-like models between encoder and head, which a model pretrained without a head often lacks.
POOLER = "pooler"

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
    """Finds the folder of a pretrained model, and fetches it from the hub or an S3 store if necessary.

    Args:
        model_id: A path, or an address of the hub or of a store.
        from_scratch: Whether the model will start with random weights; then none are fetched.

    Returns:
        The folder; and `model_id` again, with the digest of the content where it came from an S3 store.

    Raises:
        InputError: there is no such folder, or it holds no usable model, or no weights.
        HubError: the hub did not give it.
        StoreError: the S3 store did not give it.
    """
    fetched = locate("model_id", model_id).fetch_model(weights=not from_scratch)
    folder = fetched.path
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
    if trouble := trouble_with(folder, weights=not from_scratch):
        raise InputError(f"model_id {model_id!r}: {trouble}")
    return folder, fetched.address


@dataclass(frozen=True)
class Pretrained:
    """The parts of a pretrained model that are the same in every training."""

    folder: Path
    config: Any
    """The configuration of the classifier."""
    tokenizer: Any
    settings: TrainingSettings
    head: Head
    """The head of the classifier."""
    before: Head
    """The head of the pretrained model, according to its config."""

    @classmethod
    def load(cls, folder: Path, head: Head, settings: TrainingSettings) -> Pretrained:
        """Reads configuration and tokenizer, adapts the configuration to `head`, and tries the model on some texts.

        Args:
            folder: The folder of the pretrained model.
            head: The head of the classifier.
            settings: The training's settings.

        Raises:
            InputError: the model cannot be made a text classifier.
        """
        with _explained(settings):
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            before = read_head(config, temperature=1.0)
        if trouble := trouble_with_tokenizer(tokenizer, folder):
            raise InputError(f"model_id {settings.model_id!r}: {trouble}")
        write_head(config, head)
        _set_for_training(config, settings)
        if tokenizer.pad_token is None:
            # Decoders are trained without padding. The padding is masked, so any token will do; only a tokenizer
            # without an end-of-text token needs a new one.
            tokenizer.add_special_tokens({"pad_token": tokenizer.eos_token or "[PAD]"})
        tokenizer.truncation_side = settings.truncation_side
        pretrained = cls(folder, config, tokenizer, settings, head, before)
        pretrained._try_out()
        return pretrained

    def _try_out(self) -> None:
        """Determines how long texts may be, and how they are padded."""
        model, *_ = self._build()
        self.tokenizer.model_max_length = _max_length(self.tokenizer, model, self.settings)
        # A fast tokenizer stores the truncation length at its first call.
        self.tokenizer("", truncation=True)
        try:
            check_model(model, self.tokenizer)
        except UnusableModelError as error:
            raise InputError(
                f"model_id {self.settings.model_id!r}: a {self.config.model_type} model with this tokenizer {error}. "
                f"Give another encoder, such as BERT's or MiniLM's."
            ) from error
        if getattr(model.config, ONE_LENGTH, False):
            setattr(self.config, ONE_LENGTH, True)

    def classifier(self) -> tuple[Any, set[str], set[str]]:
        """Builds the model to train.

        Returns:
            The model, in float32; the names of the weights that must learn whatever is frozen (the head's, and those
            that the folder lacks); and the names of the weights that were initialized at random.

        Raises:
            InputError: transformers knows no classifier of this kind, or the weights do not match the config.
        """
        model, drawn, remarks = self._build()
        for remark in filter(None, remarks):
            logger.info(remark)
        encoder = f"{model.base_model_prefix}."
        head = {name for name, _ in model.named_parameters() if not name.startswith(encoder)}
        return model, head | drawn, drawn

    def _build(self) -> tuple[Any, set[str], list[str]]:
        """Returns the model, the names of the weights that were initialized at random, and remarks to log."""
        with _explained(self.settings):
            model, drawn, remark = (
                self._from_scratch() if self.settings.from_scratch else self._from_weights()
            )
            remarks = [remark, _make_room(model, self.tokenizer)]
        model.config.pad_token_id = self.tokenizer.pad_token_id
        return model, drawn, remarks

    def _from_scratch(self) -> tuple[Any, set[str], str]:
        model = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
            copy.deepcopy(self.config), dtype=torch.float32, trust_remote_code=False
        )
        return model, {name for name, _ in model.named_parameters()}, ""

    def _from_weights(self) -> tuple[Any, set[str], str]:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            self.folder,
            config=copy.deepcopy(self.config),
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # A head for other classes is replaced.
            dtype=torch.float32,
            output_loading_info=True,
        )
        mismatched = {name for name, *_ in found["mismatched_keys"]}
        drawn = found["missing_keys"] | mismatched
        self._require_encoder(model, drawn)
        new, remark = adopt_head(model, drawn, self.before, self.head)
        if mismatched:
            remark = of_other_classes(self.before, self.head)
        return model, drawn | new, remark

    def _require_encoder(self, model: Any, drawn: set[str]) -> None:
        """Refuses weights that lack some of the encoder's, which would stay random without a warning."""
        encoder = f"{model.base_model_prefix}."
        lacking = sorted(name for name in drawn if name.startswith(encoder) and POOLER not in name)
        if lacking:
            raise InputError(
                f"model_id {self.settings.model_id!r}: the weights have nothing that fits {lacking[0]}"
                f"{f' and {len(lacking) - 1} others' if lacking[1:] else ''} of what config.json describes. "
                f"Give weights and config.json of one model, or set from_scratch to draw all of them."
            )


@contextmanager
def _explained(settings: TrainingSettings) -> Iterator[None]:
    try:
        yield
    except MinimlError:
        raise
    except Exception as error:  # Libraries raise anything where a model is not what they expect.
        # transformers' message advises to trust the code.
        said = "it brings code of its own" if "trust_remote_code" in str(error) else in_a_line(error)
        raise InputError(
            f"model_id {settings.model_id!r} does not load as a text classifier ({said}). "
            f"Give an encoder that transformers' AutoModelForSequenceClassification knows."
        ) from error


def _set_for_training(config: Any, settings: TrainingSettings) -> None:
    for name in DROPOUT_NAMES:
        if hasattr(config, name):
            setattr(config, name, settings.dropout)
    if hasattr(config, "use_cache"):
        config.use_cache = False  # The cache serves generation only.
    if getattr(config, "attention_type", "") == "block_sparse":
        # At its first short text, BigBird switches to full attention for good: results would depend on the order.
        config.attention_type = "original_full"


def _make_room(model: Any, tokenizer: Any) -> str:
    """Extends the model's embedding to a row for each token of the tokenizer; returns a remark where it did."""
    if not tokenizer.is_fast:
        return ""  # It reads characters or bytes, whose number is fixed.
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:  # CANINE has none.
        return ""
    tokens, rows = max(tokenizer.get_vocab().values()) + 1, len(embedding.weight)
    if tokens <= rows:
        return ""
    model.resize_token_embeddings(tokens, mean_resizing=False)
    return f"the tokenizer has {tokens:,} tokens, the model {rows:,}: those that it lacks begin at random"


def _max_length(tokenizer: Any, model: Any, settings: TrainingSettings) -> int:
    limit = min(tokenizer.model_max_length, _positions(model))
    if settings.max_length > limit:
        logger.info(
            f"max_length {settings.max_length} is more than the model takes: cutting at {limit:.0f} tokens"
        )
    return int(min(settings.max_length, limit))


def _positions(model: Any) -> float:
    """Returns how many tokens the model has positions for. RoBERTa-like models number them from after the padding's."""
    positions = getattr(model.config, "max_position_embeddings", None) or math.inf
    if positions < 0:  # XLNet: any number.
        return math.inf
    before_the_first = [
        part.padding_idx + 1
        for name, part in model.named_modules()
        if "position" in name.rpartition(".")[2]
        and getattr(part, "padding_idx", None) is not None
        and len(part.weight) == positions
    ]
    return float(positions - max(before_the_first, default=0))
