"""Attention for training on a processor in bfloat16: a text after the other, without its padding.

There torch's own (SDPA's flash kernel) takes half of a step, most of it on the way back. The scores of one text are a
few megabytes, which stay in the cache, and are computed by the same fast matrix products as everything else; on the way
back they are computed again, as flash attention does, so that nothing of their size is kept (docs/decisions/0025).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

NAME = "miniml_text_by_text"
"""By which transformers knows it."""
ENCODERS = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
"""Of whose layers each attends to the whole text, by nothing but the products of queries and keys."""


def attend_text_by_text(
    model: Any, padding_side: str, device: torch.device, bf16: bool, dropout: float
) -> None:
    """Has the model attend so, where that is faster and comes to the same."""
    # With padding on the left, a classifier that reads the first token reads what padding makes of the text.
    plain = model.config.model_type in ENCODERS and padding_side == "right" and not dropout
    if plain and device.type == "cpu" and bf16:
        AttentionInterface.register(NAME, _attention)
        # None where nothing is padded, or else as the tokenizer made it, of shape [texts, longest].
        AttentionMaskInterface.register(NAME, flash_attention_mask)
        model.set_attn_implementation(NAME)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: of shape [texts, heads, longest, size]; gives [texts, longest, heads, size]."""
    assert not dropout
    texts, _, longest, size = query.shape
    scale = size**-0.5 if scaling is None else scaling
    lengths = [longest] * texts if attention_mask is None else attention_mask.sum(dim=1).tolist()
    attended: Tensor = _TextByText.apply(query, key, value, scale, lengths)  # type: ignore[no-untyped-call]
    return attended.transpose(1, 2), None


class _TextByText(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, lengths: list[int]
    ) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # It would have the softmax in fp32, and round its result.
            query = query * scale
            attended = _zeros_like(query)
            for text, length in enumerate(lengths):
                rows = text, slice(None), slice(length)
                attended[rows] = _shares(query[rows], key[rows]) @ value[rows]
        ctx.save_for_backward(query, key, value)
        ctx.scale, ctx.lengths = scale, lengths
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value = ctx.saved_tensors
        of_query, of_key, of_value = _zeros_like(query), _zeros_like(key), _zeros_like(value)
        for text, length in enumerate(ctx.lengths):
            rows = text, slice(None), slice(length)
            shares = _shares(query[rows], key[rows])
            of_value[rows] = shares.mT @ gradient[rows]
            of_shares = gradient[rows] @ value[rows].mT
            of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
            of_query[rows] = of_scores @ key[rows]
            of_key[rows] = of_scores.mT @ query[rows]
        return of_query.mul_(ctx.scale), of_key, of_value, None, None


def _shares(query: Tensor, key: Tensor) -> Tensor:
    """How much each token of a text takes of each, by head: shape [heads, tokens, tokens]."""
    return torch.softmax(query @ key.mT, dim=-1)


def _zeros_like(states: Tensor) -> Tensor:
    """Of a shape [texts, heads, tokens, size], laid out as the linear layers on either side have it."""
    texts, heads, tokens, size = states.shape
    return states.new_zeros(texts, tokens, heads, size).transpose(1, 2)
