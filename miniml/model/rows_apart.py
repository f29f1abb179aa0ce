"""Runs a model so that its answer to a text does not depend on the other texts of the batch.

Most models ignore padding. For those that read it (FNet, Funnel, CANINE), a batch is split into texts of one length;
for those that read the answer at the end token (BART, T5), into texts with equally many end tokens. Which one a model
is stands in its config, where `miniml.training.model_check` writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ONE_LENGTH = "texts_of_one_length"
"""The config's key that is true where a batch has to hold texts of one length."""


def logits_of_rows(
    model: Callable[..., Any], config: Any, token_ids: Tensor, attention_mask: Tensor
) -> Tensor:
    """Computes the logits of a batch, in as many passes as the model needs.

    Args:
        model: A classifier of transformers.
        config: The model's config.
        token_ids: Padded texts, shape [texts, longest].
        attention_mask: 1 on tokens, 0 on padding, of the same shape.

    Returns:
        Shape [texts, labels].
    """
    # Importing torch takes more than a second, which a server spares that converts no model and runs none by torch.
    import torch

    groups = _groups(config, token_ids, attention_mask)
    if len(groups) < 2 and not getattr(config, ONE_LENGTH, False):
        logits: Tensor = model(input_ids=token_ids, attention_mask=attention_mask).logits
        return logits
    answers = []
    for rows in groups:
        # Up to the longest text: if all have one length, no padding is left.
        columns = attention_mask[rows].any(dim=0)
        answers.append(
            model(
                input_ids=token_ids[rows][:, columns], attention_mask=attention_mask[rows][:, columns]
            ).logits
        )
    return torch.cat(answers)[torch.cat(groups).argsort()]


def is_run_apart(config: Any) -> bool:
    """Whether batches of the model may have to be split, which a converted model cannot do."""
    return bool(getattr(config, ONE_LENGTH, False) or getattr(config, "is_encoder_decoder", False))


def _groups(config: Any, token_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """Returns the numbers of the rows that may be run together, group by group."""
    import torch

    kinds = []
    if getattr(config, ONE_LENGTH, False):
        kinds.append(attention_mask.sum(dim=1))
    if getattr(config, "is_encoder_decoder", False):
        kinds.append(((token_ids == config.eos_token_id) & (attention_mask > 0)).sum(dim=1))
    if not kinds:
        return [torch.arange(len(token_ids), device=token_ids.device)]
    _, group = torch.unique(torch.stack(kinds, dim=1), dim=0, return_inverse=True)
    return [(group == number).nonzero()[:, 0] for number in range(int(group.max()) + 1)]
