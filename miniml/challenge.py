"""The champion answers the same test rows as the new model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from miniml import manifest
from miniml.classifier import Classifier
from miniml.comparison import Rightness, compare
from miniml.errors import ChampionError
from miniml.evaluation_result import Comparison
from miniml.progress import Progress, note
from miniml.sources import S3_SCHEME, s3_address


def challenge(
    source: str, digest: str, texts: Sequence[str], true_labels: Sequence[str], right: Rightness
) -> Comparison | None:
    """Compares a model with the champion in `source`, signed as `digest`; None where `digest` is "": nobody is there.

    `true_labels` are the names of the rows' classes, and `right`, shape [rows], says where the new model gave them.
    By name, because the champion's classes may stand in another order; one that it does not know, it gets wrong.

    Raises:
        ModelFolderError: the folder is not the one that was signed.
        StoreError: the store does not give it.
        ChampionError: it is another model than was found before.
    """
    if not digest:
        return None
    folder = _bring(source)
    if (found := manifest.verify(folder).digest) != digest:
        raise ChampionError(
            f"the champion at {source} has digest {found[:12]}, but {digest[:12]} was found there when this run "
            f"began. Start the run again."
        )
    champion = Classifier.load(folder)
    progress = Progress("testing the champion", len(texts), "texts")
    best = champion.predict_probabilities(list(texts), progress.report).argmax(axis=-1)
    names = np.array(champion.labels, dtype=object)
    comparison = compare(right, names[best] == np.array(list(true_labels), dtype=object), digest)
    note(
        f"the champion has accuracy {comparison.champion_accuracy:.3f} on the same rows: "
        f"{comparison.only_challenger:,} won, {comparison.only_champion:,} lost"
    )
    return comparison


def _bring(source: str) -> Path:
    if not source.startswith(S3_SCHEME):
        return Path(source)
    from miniml import store  # Only here: other sources need no S3 client.

    return store.cached("champion", s3_address("champion", source)).path
