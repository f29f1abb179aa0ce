"""Compares the new model with the champion, the model that is served now, on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from miniml.champion.challengers import count_challenger
from miniml.champion.record import Champion
from miniml.errors import ChampionError
from miniml.escaping import quoted
from miniml.evaluation.predictions import Predictions
from miniml.evaluation.result import Comparison
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.model.engines import MissingEngineError
from miniml.progress import Progress, logger
from miniml.settings.champion import NO_CHAMPION
from miniml.sources.address import locate

# The labels that an error message lists.
MAX_LABELS = 5
REMEDY = f"Set champion={NO_CHAMPION} to replace it by the absolute rules alone."


def compare_with_champion(
    champion: Champion, predictions: Predictions, test: str, tried: Sequence[str] = ()
) -> Comparison | None:
    """Lets the champion answer the rows of `predictions`, and compares the two models' answers.

    Answers are compared by the names of labels, because the champion's may have another order.

    Args:
        champion: The model that is served now.
        predictions: The new model's answers.
        test: The test's digest, for which challengers are counted (see `miniml.champion.challengers`).
        tried: The digests of all models that this run has asked the test, of which the new model is one: each counts as
            a challenger, because any of them could have become the new model. The first has the lowest number.

    Returns:
        The comparison; None where there is no champion.

    Raises:
        ModelFolderError: the champion's folder is not the one that was signed.
        StoreError: the champion cannot be read from the store.
        ChampionError: the champion has changed since the run began, does another task, has other classes, or is bound
            to an engine that this machine has not.
    """
    if not champion.exists:
        return None
    folder = _fetched(champion.source)
    if (found := manifest.verify(folder).digest) != champion.digest:
        raise ChampionError(
            f"the champion at {champion.source} has digest {found[:12]}, but {champion.digest[:12]} was found there "
            f"when this run began. Start the run again."
        )
    classifier = _loaded(champion, folder)
    _require_comparable(champion, classifier, predictions)
    comparison = _compared(champion, classifier, predictions)
    logger.info(
        f"the champion has {comparison.measure.replace('_', ' ')} {comparison.champion_figure:.3f} on the same rows: "
        f"{comparison.only_challenger:,} won, {comparison.only_champion:,} lost"
    )
    if predictions.model_digest == champion.digest:
        return comparison
    numbers = {
        digest: count_challenger(champion, test, digest)
        for digest in tried or [predictions.model_digest]
        if digest != champion.digest
    }
    challenger = numbers[predictions.model_digest]
    return replace(comparison, challenge=challenger.number, uncounted=challenger.uncounted)


def _loaded(champion: Champion, folder: Path) -> Classifier:
    try:
        return Classifier.load(folder)
    except MissingEngineError as error:
        raise ChampionError(
            f"the champion at {champion.source} cannot answer here: {error} {REMEDY}"
        ) from error


def _require_comparable(champion: Champion, classifier: Classifier, predictions: Predictions) -> None:
    if classifier.head.task != predictions.task:
        raise ChampionError(
            f"the champion at {champion.source} does {classifier.head.task}, the new model {predictions.task}: no test "
            f"tells which is better. {REMEDY}"
        )
    old, new = set(classifier.labels), set(predictions.labels)
    if old != new:
        raise ChampionError(
            f"the champion at {champion.source} has other classes than the new model: {_only_in(old - new, 'only it')}"
            f"{'; ' if old - new and new - old else ''}{_only_in(new - old, 'only the new one')}. It could not answer "
            f"their rows, and would lose by that alone. Train with the same labels (label_names says how they are "
            f"called). {REMEDY}"
        )


def _only_in(labels: set[str], whose: str) -> str:
    if not labels:
        return ""
    shown = ", ".join(quoted(label) for label in sorted(labels)[:MAX_LABELS])
    more = f" and {len(labels) - MAX_LABELS:,} more" if len(labels) > MAX_LABELS else ""
    return f"{whose} has {shown}{more}"


def _compared(champion: Champion, classifier: Classifier, predictions: Predictions) -> Comparison:
    progress = Progress("testing the champion", len(predictions.texts), "texts")
    outputs = classifier.predict_probabilities(predictions.texts, progress.report)
    answers = [classifier.prediction(row) for row in outputs]
    return predictions.compared_with_answers(answers, champion.digest)


def _fetched(source: str) -> Path:
    return locate("champion", source).fetch_model().path
