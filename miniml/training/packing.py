"""Trains an encoder on a CPU without computing what its head does not read (docs/decisions/0025).

The texts of a batch are packed: they stand one after another in a row, without padding. And as the head reads each
text's first token alone, the last layer computes only that one.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

from miniml.training.attention import attend_text_by_text
from miniml.training.trainable import encoder_layers

NAME = "miniml_text_by_text"
"""The name of the attention of packed texts in transformers."""
ENCODERS = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
"""Model types in which each layer attends to the whole text, with scores from queries and keys alone, and whose
classifiers read the first token."""


def pack_texts(model: Any, padding_side: str, device: torch.device, dropout: float) -> None:
    """Makes the model pack its batches, if that gives the same results.

    It is called with padded batches, as before.

    Args:
        model: A classifier of transformers; it is changed. What is saved of it is not.
        padding_side: "right" or "left", as the tokenizer pads.
        device: Where the model trains. Only a CPU is fast with one text at a time.
        dropout: The dropout rate; above 0, no fast attention is left, and nothing is changed.
    """
    # A classifier that reads the first token would read padding if that is on the left.
    supported = model.config.model_type in ENCODERS and padding_side == "right" and not dropout
    layers = encoder_layers(model)
    if not (supported and layers and device.type == "cpu") or getattr(model.config, "is_decoder", False):
        return
    AttentionInterface.register(NAME, _attention)
    # Packed texts have no padding to mask: this makes no mask.
    AttentionMaskInterface.register(NAME, flash_attention_mask)
    model.set_attn_implementation(NAME)
    model.register_forward_pre_hook(_pack, with_kwargs=True)
    # Bound, so that a copy of the model has a layer with the copy's weights.
    first_tokens = _distilbert_layer if model.config.model_type == "distilbert" else _bert_layer
    layers[-1].forward = MethodType(first_tokens, layers[-1])


def _pack(model: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Replaces a padded batch by one row, with the tokens' positions and the texts' lengths."""
    mask = named.pop("attention_mask")
    tokens = mask.bool()
    embedding = model.base_model.embeddings.position_embeddings
    # RoBERTa's relatives number positions from after the padding's.
    first = 0 if embedding.padding_idx is None else embedding.padding_idx + 1
    return arguments, {
        **named,
        "input_ids": named["input_ids"][tokens][None],
        "position_ids": (mask.cumsum(dim=1) - 1 + first)[tokens][None],
        "text_lengths": mask.sum(dim=1),
    }


# A compiled layer would be compiled again for other lengths.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    text_lengths: Tensor,
    **others: Any,
) -> tuple[Tensor, None]:
    """Has the signature that transformers calls.

    Args:
        query, key, value: Shape [1, heads, tokens, size].
        attention_mask: None.
        text_lengths: The number of tokens of each text, shape [texts].

    Returns:
        The output, shape [1, tokens, heads, size], and no attention weights.
    """
    lengths = text_lengths.tolist()
    return attend_text_by_text(query, key, value, lengths, lengths), None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _bert_layer(
    layer: Any, hidden: Tensor, attention_mask: None = None, *_: Any, text_lengths: Tensor, **others: Any
) -> Tensor:
    """Computes a layer of BERT's for the first tokens alone, shape [texts, 1, width]."""
    states = layer.attention.self
    first = _first_tokens(hidden, text_lengths)
    attended = _attended(states.query(first), states.key(hidden), states.value(hidden), states, text_lengths)
    output: Tensor = layer.feed_forward_chunk(layer.attention.output(attended, first))
    return output.transpose(0, 1)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _distilbert_layer(
    layer: Any, hidden: Tensor, attention_mask: None = None, *, text_lengths: Tensor, **others: Any
) -> Tensor:
    """Computes a layer of DistilBERT's for the first tokens alone, shape [texts, 1, width]."""
    states = layer.attention
    first = _first_tokens(hidden, text_lengths)
    attended = _attended(
        states.q_lin(first), states.k_lin(hidden), states.v_lin(hidden), states, text_lengths
    )
    between = layer.sa_layer_norm(states.out_lin(attended) + first)
    output: Tensor = layer.output_layer_norm(layer.ffn(between) + between)
    return output.transpose(0, 1)


def _first_tokens(hidden: Tensor, text_lengths: Tensor) -> Tensor:
    """Returns the first token of each text, shape [1, texts, width], of shape [1, tokens, width]."""
    return hidden[:, text_lengths.cumsum(dim=0) - text_lengths]


def _attended(query: Tensor, key: Tensor, value: Tensor, attention: Any, text_lengths: Tensor) -> Tensor:
    """Attends from one token of each text to all of its tokens.

    Args:
        query: Shape [1, texts, width].
        key, value: Shape [1, tokens, width].
        attention: The attention module.
        text_lengths: The number of tokens of each text, shape [texts].

    Returns:
        Shape [1, texts, width].
    """
    query, key, value = (
        states.view(1, states.shape[1], -1, attention.attention_head_size).transpose(1, 2)
        for states in (query, key, value)
    )
    return attend_text_by_text(query, key, value, [1] * len(text_lengths), text_lengths.tolist()).flatten(2)
