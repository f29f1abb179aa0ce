"""Makes the batches on which an engine is compared with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miniml.model import probes
from miniml.model.classifier import made_up, padded
from miniml.model.engines import Engine, Logits, TokenIds
from miniml.model.heads import Head

# The lengths of the single texts, in tokens.
SINGLES = (16, 64, 256)
# The lengths of the batch, in tokens, where the model folder has no probes.
BATCH = (128, 118, 108, 98, 88, 78)
# The lengths of two texts, in tokens. The short one runs alone, and then in a batch with the long one; the answers may
# differ by so much, in the unit of `Head.disagreement`. Rounding makes a hundredth of it, unmasked padding much more.
PADDING_PROBE = (8, 64)
PADDING_TOLERANCE = 1e-4


def pads(engine: Engine, tokenizer: Any, head: Head) -> bool:
    """Tells whether padding leaves the reference's answers as they are; the other engines agree with it.

    Args:
        engine: The reference.
        tokenizer: Pads the batches; texts are made up of its tokens.
        head: The model's head.
    """

    def logits(batch: Sequence[TokenIds]) -> Logits:
        return head.scaled(engine(*padded(tokenizer, batch)))

    short, long = made_up(tokenizer, *PADDING_PROBE)
    return head.disagreement(logits([short, long])[:1], logits([short])) <= PADDING_TOLERANCE


def batches(tokenizer: Any, model_dir: Path, pads: bool) -> list[list[TokenIds]]:
    """Returns single texts of each length, and then a batch, of one length where nothing pads.

    Args:
        tokenizer: The texts are made up of its tokens.
        model_dir: The model folder, which may have probes.
        pads: Whether padding leaves answers as they are.
    """
    if pads:
        # Beside an empty text there is hardly anything but padding, which some converted models read.
        batch = (probes.read(model_dir) or made_up(tokenizer, *BATCH)) + made_up(tokenizer, 0)
    else:
        batch = made_up(tokenizer, *[BATCH[0]] * len(BATCH))
    # Where the model reads fewer tokens than the longest, several have one length.
    singles = {len(single): single for single in made_up(tokenizer, *SINGLES)}
    return [*([single] for single in singles.values()), batch]
