"""`probes.json` in the model folder: validation texts, as tokens, that the model was least sure of.

A faster engine rounds differently. Texts that the model is sure of do not show it, and made-up ones it is
mostly sure of; these do. Whoever serves the model compares engines on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from miniml.model.engines import Engine, TokenIds
from miniml.model.heads import Logits, lead

PROBES_NAME = "probes.json"
# Looked through, and kept: a server compares every engine on them before it answers anyone.
CANDIDATES = 64
PROBES = 8


def write(
    model_dir: Path,
    engine: Engine,
    texts: Sequence[TokenIds],
    margin: Callable[[Logits], float] = lead,
) -> None:
    """Keeps those of the first encoded `texts` that `engine` is least sure of, by the `margin` of their logits."""

    def margin_of(token_ids: TokenIds) -> float:
        (logits,) = engine(token_ids[None], np.ones_like(token_ids[None]))
        return margin(logits)

    surest_last = sorted(texts[:CANDIDATES], key=margin_of)
    (model_dir / PROBES_NAME).write_text(json.dumps([ids.tolist() for ids in surest_last[:PROBES]]) + "\n")


def read(model_dir: Path) -> list[TokenIds]:
    """The texts' tokens; none where the folder has no such file."""
    path = model_dir / PROBES_NAME
    return [np.array(ids, dtype=np.int64) for ids in json.loads(path.read_text())] if path.exists() else []
