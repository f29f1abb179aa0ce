"""Computes the attention of texts that stand one after another in a row, for training on a CPU.

In fp32 torch's own kernel (SDPA) computes it, a text at a time. In bfloat16 that kernel would take half of a step, most
of it in the backward pass. There, fast matrix products compute the scores of a text, a few megabytes, which stay in the
cache. The backward pass computes them again instead of keeping them (docs/decisions/0025), as flash attention does:
"FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", https://arxiv.org/abs/2205.14135.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend_text_by_text(
    query: Tensor, key: Tensor, value: Tensor, queries: Sequence[int], keys: Sequence[int]
) -> Tensor:
    """Computes attention within each text.

    Args:
        query: The queries of all texts, shape [1, heads, queries, size].
        key: The keys of all texts, shape [1, heads, keys, size].
        value: The values, of the same shape as the keys.
        queries: The number of queries of each text.
        keys: The number of keys of each text.

    Returns:
        Shape [1, queries, heads, size].
    """
    if query.dtype is torch.bfloat16:
        attended: Tensor = _Recomputed.apply(query, key, value, queries, keys)  # type: ignore[no-untyped-call]
        return attended.transpose(1, 2)
    texts = zip(
        torch.split(query, list(queries), 2),
        torch.split(key, list(keys), 2),
        torch.split(value, list(keys), 2),
        strict=True,
    )
    return torch.cat([scaled_dot_product_attention(*text).transpose(1, 2) for text in texts], dim=1)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, queries: Sequence[int], keys: Sequence[int]
    ) -> Tensor:
        # Autocast would compute the softmax in fp32, and round it.
        with torch.autocast("cpu", enabled=False):
            query = query * _scale(query)
            attended = _zeros_like(query)
            for asking, asked in _of_texts(queries, keys):
                attended[asking] = _attention_weights(query[asking], key[asked]) @ value[asked]
        ctx.save_for_backward(query, key, value)
        ctx.queries, ctx.keys = queries, keys
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value = ctx.saved_tensors
        query_grad, key_grad, value_grad = _zeros_like(query), _zeros_like(key), _zeros_like(value)
        for asking, asked in _of_texts(ctx.queries, ctx.keys):
            weights = _attention_weights(query[asking], key[asked])
            value_grad[asked] = weights.mT @ gradient[asking]
            weights_grad = gradient[asking] @ value[asked].mT
            scores_grad = torch._softmax_backward_data(weights_grad, weights, -1, weights.dtype)
            query_grad[asking] = scores_grad @ key[asked]
            key_grad[asked] = scores_grad.mT @ query[asking]
        return query_grad.mul_(_scale(query)), key_grad, value_grad, None, None


def _of_texts(queries: Sequence[int], keys: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    """Yields the index of each text's queries, and that of its keys, both for shape [1, heads, tokens, size]."""
    for last_query, last_key, asking, asked in zip(
        accumulate(queries), accumulate(keys), queries, keys, strict=True
    ):
        yield (
            (0, slice(None), slice(last_query - asking, last_query)),
            (0, slice(None), slice(last_key - asked, last_key)),
        )


def _scale(query: Tensor) -> float:
    return 1 / math.sqrt(query.shape[-1])


def _attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Returns the weight of each key for each query of a text, shape [heads, queries, keys]."""
    return torch.softmax(query @ key.mT, dim=-1)


def _zeros_like(states: Tensor) -> Tensor:
    """Returns zeros of the same shape, [1, heads, tokens, size], in the memory layout that linear layers use."""
    texts, heads, tokens, size = states.shape
    return states.new_zeros(texts, tokens, heads, size).transpose(1, 2)
