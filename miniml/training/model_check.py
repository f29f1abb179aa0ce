"""Checks a model before the training by running it on a few made-up texts, one at a time and in a batch.

The check finds out how to pad texts for the model. It refuses a model that could not be served: one that fails on a
text, or whose output for a text is random or depends on the other texts of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from miniml.errors import InputError
from miniml.model.classifier import made_up, padded
from miniml.model.engines import Logits, TokenIds
from miniml.model.model_files import in_a_line
from miniml.model.rows_apart import ONE_LENGTH, logits_of_rows
from miniml.progress import logger

# The lengths, in tokens, of the texts that are run as a batch; the first text is empty.
LENGTHS = (0, 5, 12)
# The tolerance, as a share of the largest logit. In float32, correctly masked padding changes logits by 1e-6 of it; in
# Nystromformer, which of the models that read padding is affected least, by 4e-4.
ROUNDING = 1e-4


class UnusableModelError(InputError):
    """The model cannot become a text classifier; the message says why, without naming the model."""


def check_model(model: Any, tokenizer: Any) -> None:
    """Checks a model, and sets how its texts are padded.

    Args:
        model: The classifier. If only texts of one length can share a batch, its config is set to say so.
        tokenizer: Its tokenizer; the padding side is set.

    Raises:
        UnusableModelError: the model fails on a made-up text, or its output is random or depends on the other texts.
    """
    _, *texts = made_up(tokenizer, *LENGTHS)
    texts.insert(0, made_up(tokenizer, 0)[0])
    (longest,) = made_up(tokenizer, tokenizer.model_max_length)
    alone = _answers(model.train(), tokenizer, [texts[-1]])
    if alone.shape != (1, model.config.num_labels):
        raise UnusableModelError(
            f"gives {list(alone.shape[1:])} numbers a text instead of {model.config.num_labels}"
        )
    model.eval()
    alone = np.concatenate([_answers(model, tokenizer, [text]) for text in texts])
    # The longest text comes first, as some models keep buffers that depend on it.
    _answers(model, tokenizer, [longest])
    if not _same(alone, np.concatenate([_answers(model, tokenizer, [text]) for text in texts])):
        raise UnusableModelError("answers the same text differently each time")
    for side in ("right", "left"):
        _pad_on(tokenizer, side)
        if _same(alone, _answers(model, tokenizer, texts)):
            return
    _pad_on(tokenizer, "right")
    setattr(model.config, ONE_LENGTH, True)
    if not _same(alone, _answers(model, tokenizer, texts)):
        raise UnusableModelError("answers a text differently when others share its batch")
    logger.info(
        f"a {model.config.model_type} model reads the padding beside a text: "
        f"only texts of one length go together, which takes longer, and torch serves it"
    )


def _pad_on(tokenizer: Any, side: str) -> None:
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = side  # Only init_kwargs is saved.


def _answers(model: Any, tokenizer: Any, texts: Sequence[TokenIds]) -> Logits:
    ids, mask = (torch.from_numpy(array) for array in padded(tokenizer, texts))
    try:
        with torch.set_grad_enabled(model.training):
            logits = logits_of_rows(model, model.config, ids, mask)
    except Exception as error:  # Models raise errors of every type.
        raise UnusableModelError(
            f"fails on a text of {max(map(len, texts))} tokens ({type(error).__name__}: {in_a_line(error)})"
        ) from error
    answers: Logits = logits.detach().float().numpy()
    return answers


def _same(found: Logits, expected: Logits) -> bool:
    return bool(np.abs(found - expected).max() <= ROUNDING * np.abs(expected).max())
