"""A try-out of a model before any work: it reads a few made-up texts, alone and together.

It finds out how texts are to be padded for it, and refuses a model that cannot be served: one that fails on a text, or
whose answer to a text depends on chance, or on what shares its batch.
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
from miniml.progress import note

# Tokens of the texts that are run together; the first is empty.
LENGTHS = (0, 5, 12)
# Of the largest logit. In float32 padding comes to 1e-6 of it; Nystromformer, which reads padding least, has 4e-4.
ROUNDING = 1e-4


class UnusableModelError(InputError):
    """No text classifier comes of the model; the message says why, and does not name it."""


def check_model(model: Any, tokenizer: Any) -> None:
    """Sets the tokenizer's padding side, and whether the model's texts have to be of one length, in its config.

    Raises:
        UnusableModelError: it fails on made-up texts, or answers them by chance.
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
    _answers(model, tokenizer, [longest])  # As long as any; some keep what they have learnt of it.
    if not _same(alone, np.concatenate([_answers(model, tokenizer, [text]) for text in texts])):
        raise UnusableModelError("answers the same text otherwise each time")
    for side in ("right", "left"):
        _pad_on(tokenizer, side)
        if _same(alone, _answers(model, tokenizer, texts)):
            return
    _pad_on(tokenizer, "right")
    setattr(model.config, ONE_LENGTH, True)
    if not _same(alone, _answers(model, tokenizer, texts)):
        raise UnusableModelError("answers a text otherwise when others share its batch")
    note(
        f"a {model.config.model_type} model reads the padding beside a text: "
        f"only texts of one length go together, which takes longer, and torch serves it"
    )


def _pad_on(tokenizer: Any, side: str) -> None:
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = side  # The latter is what is saved.


def _answers(model: Any, tokenizer: Any, texts: Sequence[TokenIds]) -> Logits:
    ids, mask = (torch.from_numpy(array) for array in padded(tokenizer, texts))
    try:
        with torch.set_grad_enabled(model.training):
            logits = logits_of_rows(model, model.config, ids, mask)
    except Exception as error:  # whatever a model of any kind stumbles over
        raise UnusableModelError(
            f"fails on a text of {max(map(len, texts))} tokens ({type(error).__name__}: {in_a_line(error)})"
        ) from error
    found: Logits = logits.detach().float().numpy()
    return found


def _same(found: Logits, expected: Logits) -> bool:
    return bool(np.abs(found - expected).max() <= ROUNDING * np.abs(expected).max())
