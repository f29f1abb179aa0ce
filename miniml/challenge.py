"""The champion answers the same test rows as the new model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from miniml import manifest
from miniml.champion import Champion
from miniml.classifier import Classifier
from miniml.comparison import compare, compare_errors
from miniml.errors import ChampionError
from miniml.evaluation_result import Comparison
from miniml.predictions import NumberPredictions, Predictions
from miniml.progress import Progress, note
from miniml.settings import NO_CHAMPION
from miniml.sources import S3_SCHEME, s3_address


def challenge(champion: Champion, predictions: Predictions) -> Comparison | None:
    """Compares the model that gave `predictions` with the champion; None where there is none.

    A row counts by the names of labels, because the champion's may stand in another order; one that it does not
    know, it gets wrong.

    Raises:
        ModelFolderError: the champion's folder is not the one that was signed.
        StoreError: the store does not give it.
        ChampionError: it is another model than was found before, or does another task.
    """
    if not champion.exists:
        return None
    folder = _bring(champion.source)
    if (found := manifest.verify(folder).digest) != champion.digest:
        raise ChampionError(
            f"the champion at {champion.source} has digest {found[:12]}, but {champion.digest[:12]} was found there "
            f"when this run began. Start the run again."
        )
    classifier = Classifier.load(folder)
    if classifier.head.task != predictions.task:
        raise ChampionError(
            f"the champion at {champion.source} does {classifier.head.task}, the new model {predictions.task}: no test "
            f"tells which is better. Set champion={NO_CHAMPION} to replace it by the absolute rules alone."
        )
    progress = Progress("testing the champion", len(predictions.texts), "texts")
    outputs = classifier.predict_probabilities(predictions.texts, progress.report)
    if isinstance(predictions, NumberPredictions):
        comparison = compare_errors(
            predictions.errors, np.abs(outputs[:, 0] - predictions.references), champion.digest
        )
    else:
        given = [set(classifier.prediction(row).given) for row in outputs]
        true = predictions.names(predictions.references)
        right = np.array([labels == _as_set(names) for labels, names in zip(given, true, strict=True)])
        comparison = compare(predictions.right, right, champion.digest, predictions.task.measure)
    note(
        f"the champion has {comparison.measure.replace('_', ' ')} {comparison.champion_figure:.3f} on the same rows: "
        f"{comparison.only_challenger:,} won, {comparison.only_champion:,} lost"
    )
    return comparison


def _as_set(names: str | list[str]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


def _bring(source: str) -> Path:
    if not source.startswith(S3_SCHEME):
        return Path(source)
    from miniml import store  # Only here: other sources need no S3 client.

    return store.cached("champion", s3_address("champion", source)).path
