"""What a model says of each text of a batch, whatever the other texts are.

Most models attend to a text and not to its padding. For one that reads the padding too (FNet, Funnel, CANINE), texts
are run in batches of one length; and where the answer is read at the text's end token, as in BART and T5, in batches of
texts that hold as many of them. The config tells which model is which: `miniml.training.model_check` finds it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ONE_LENGTH = "texts_of_one_length"
"""The config's name for it: true where a batch is to hold texts of one length."""


def logits_of_rows(
    model: Callable[..., Any], config: Any, token_ids: Tensor, attention_mask: Tensor
) -> Tensor:
    """The logits, shape [texts, labels].

    Args:
        model: Called as transformers' classifiers are, once or more.
        config: The model's.
        token_ids: Shape [texts, longest], padded.
        attention_mask: The same shape: 1 on tokens.
    """
    groups = _groups(config, token_ids, attention_mask)
    if len(groups) < 2 and not getattr(config, ONE_LENGTH, False):
        logits: Tensor = model(input_ids=token_ids, attention_mask=attention_mask).logits
        return logits
    answers = []
    for rows in groups:
        # Up to the longest of them: where they are of one length, nothing of the padding is left.
        columns = attention_mask[rows].any(dim=0)
        answers.append(
            model(
                input_ids=token_ids[rows][:, columns], attention_mask=attention_mask[rows][:, columns]
            ).logits
        )
    return torch.cat(answers)[torch.cat(groups).argsort()]


def is_run_apart(config: Any) -> bool:
    """Whether a batch may have to be parted, which no converted model does."""
    return bool(getattr(config, ONE_LENGTH, False) or getattr(config, "is_encoder_decoder", False))


def _groups(config: Any, token_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """The numbers of the rows that may go together."""
    kinds = []
    if getattr(config, ONE_LENGTH, False):
        kinds.append(attention_mask.sum(dim=1))
    if getattr(config, "is_encoder_decoder", False):
        kinds.append(((token_ids == config.eos_token_id) & (attention_mask > 0)).sum(dim=1))
    if not kinds:
        return [torch.arange(len(token_ids), device=token_ids.device)]
    _, group = torch.unique(torch.stack(kinds, dim=1), dim=0, return_inverse=True)
    return [(group == number).nonzero()[:, 0] for number in range(int(group.max()) + 1)]
