"""Keeps the validation texts that the model is least sure of, as tokens in `probes.json` of the model folder.

Engines round differently. That shows in the answers to texts that the model is unsure of; of random texts it is mostly
sure. The predictor compares engines on these texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from miniml.model.engines import Engine, TokenIds
from miniml.model.heads import Logits, lead

PROBES_NAME = "probes.json"
# Texts to choose from, and texts kept: a server compares every engine on them before it is ready.
CANDIDATES = 64
PROBES = 8


def write(
    model_dir: Path,
    engine: Engine,
    texts: Sequence[TokenIds],
    margin: Callable[[Logits], float] = lead,
) -> None:
    """Writes the texts with the smallest margin among the first `CANDIDATES`.

    Args:
        model_dir: The model folder.
        engine: Computes the logits.
        texts: Encoded texts, each of shape [tokens].
        margin: Returns the distance of one text's logits, shape [width], from another answer.
    """

    def margin_of(token_ids: TokenIds) -> float:
        (logits,) = engine(token_ids[None], np.ones_like(token_ids[None]))
        return margin(logits)

    surest_last = sorted(texts[:CANDIDATES], key=margin_of)
    (model_dir / PROBES_NAME).write_text(json.dumps([ids.tolist() for ids in surest_last[:PROBES]]) + "\n")


def read(model_dir: Path) -> list[TokenIds]:
    """Reads the texts, each of shape [tokens]; none where the folder has no `probes.json`."""
    path = model_dir / PROBES_NAME
    return [np.array(ids, dtype=np.int64) for ids in json.loads(path.read_text())] if path.exists() else []
