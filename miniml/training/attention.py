"""Computes attention one text at a time, without its padding, for training on a CPU in bfloat16.

There, torch's own kernel (SDPA's flash attention) takes half of a step, most of it in the backward pass. The scores of
one text are a few megabytes, which stay in the cache, and fast matrix products compute them. The backward pass computes
them again instead of keeping them (docs/decisions/0025), as flash attention does: "FlashAttention: Fast and
Memory-Efficient Exact Attention with IO-Awareness", https://arxiv.org/abs/2205.14135.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

NAME = "miniml_text_by_text"
"""The name of this implementation in transformers."""
ENCODERS = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
"""Model types in which each layer attends to the whole text, with scores from queries and keys alone."""


def attend_text_by_text(
    model: Any, padding_side: str, device: torch.device, bf16: bool, dropout: float
) -> None:
    """Sets the model to this implementation if it is faster there and gives the same results.

    Args:
        model: A classifier of transformers; it is changed.
        padding_side: "right" or "left", as the tokenizer pads.
        device: Where the model trains.
        bf16: Whether it trains in bfloat16.
        dropout: The dropout rate; above 0, torch's kernel stays.
    """
    # A classifier that reads the first token would read padding if that is on the left.
    supported = model.config.model_type in ENCODERS and padding_side == "right" and not dropout
    if supported and device.type == "cpu" and bf16:
        AttentionInterface.register(NAME, _attention)
        # This mask is None without padding, otherwise the tokenizer's, of shape [texts, longest].
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
    """Has the signature that transformers calls.

    Args:
        query, key, value: Shape [texts, heads, longest, size].
        attention_mask: Shape [texts, longest]; None without padding.

    Returns:
        The output, shape [texts, longest, heads, size], and no attention weights.
    """
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
        # Autocast would compute the softmax in fp32, and round it.
        with torch.autocast("cpu", enabled=False):
            query = query * scale
            attended = _zeros_like(query)
            for text, length in enumerate(lengths):
                rows = text, slice(None), slice(length)
                attended[rows] = _attention_weights(query[rows], key[rows]) @ value[rows]
        ctx.save_for_backward(query, key, value)
        ctx.scale, ctx.lengths = scale, lengths
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value = ctx.saved_tensors
        query_grad, key_grad, value_grad = _zeros_like(query), _zeros_like(key), _zeros_like(value)
        for text, length in enumerate(ctx.lengths):
            rows = text, slice(None), slice(length)
            weights = _attention_weights(query[rows], key[rows])
            value_grad[rows] = weights.mT @ gradient[rows]
            weights_grad = gradient[rows] @ value[rows].mT
            scores_grad = torch._softmax_backward_data(weights_grad, weights, -1, weights.dtype)
            query_grad[rows] = scores_grad @ key[rows]
            key_grad[rows] = scores_grad.mT @ query[rows]
        return query_grad.mul_(ctx.scale), key_grad, value_grad, None, None


def _attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Returns the weight of each token for each other token of a text, shape [heads, tokens, tokens]."""
    return torch.softmax(query @ key.mT, dim=-1)


def _zeros_like(states: Tensor) -> Tensor:
    """Returns zeros of the same shape, [texts, heads, tokens, size], in the memory layout that linear layers use."""
    texts, heads, tokens, size = states.shape
    return states.new_zeros(texts, tokens, heads, size).transpose(1, 2)
