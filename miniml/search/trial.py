"""Trains one trial of a search. A trial that fails on any machine records the reason, and the other trials go on."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from miniml import __version__
from miniml.data import prepared
from miniml.errors import TrainingError
from miniml.files.digests import digest_of
from miniml.progress import logger
from miniml.search.failure import write_failure
from miniml.search.plan import SearchContext, decode_trial, with_trial
from miniml.search.scoreboard import scoreboard_of
from miniml.search.successive_halving import SuccessiveHalvingCallback
from miniml.settings.search import Trial, describe_trial
from miniml.settings.training import TrainingSettings
from miniml.sources.pins import UNPINNED, Pins
from miniml.training.checkpoints import IRRELEVANT
from miniml.training.fine_tune import TrainingResult, fine_tune


def fine_tune_trial(
    dataset_dir: Path,
    model_dir: Path,
    settings: TrainingSettings,
    trial: str,
    model_uri: str = "",
    pins: Pins = UNPINNED,
    split: int = 1,
) -> TrainingResult:
    """Trains like `fine_tune`, with the values of a trial in place of the settings' own.

    Where a trial would fail on any machine (its training diverges, say), `model_dir` holds the reason and no model,
    and the result has neither digest nor metrics.

    Args:
        dataset_dir: The prepared dataset.
        model_dir: The folder to write.
        settings: The training's settings.
        trial: The trial's values, a JSON object; "" for a training outside of a search.
        model_uri: See `fine_tune`.
        pins: See `fine_tune`.
        split: See `fine_tune`.

    Raises:
        MinimlError: as `fine_tune`; for a trial, only errors that a retry may avoid.
    """
    if not trial:
        return fine_tune(dataset_dir, model_dir, settings, model_uri, pins=pins, split=split)
    begun = time.monotonic()
    values, context = decode_trial(trial)
    tried = with_trial(settings, trial)
    logger.info(f"trial: {describe_trial(values)}")
    halving = _callback(dataset_dir, settings, values, context, model_uri) if context else None
    try:
        if halving is None:
            return fine_tune(dataset_dir, model_dir, tried, model_uri, pins=pins, split=split)
        return fine_tune(
            dataset_dir,
            model_dir,
            tried,
            model_uri,
            minutes=halving.minutes(),
            watchers=[halving],
            pins=pins,
            search_digest=digest_of(asdict(context)) if context else "",
            split=split,
        )
    except TrainingError as error:
        write_failure(model_dir, tried, str(error))
        logger.info(f"no model: {error}")
        return TrainingResult("", {})
    finally:
        if halving:
            halving.took(time.monotonic() - begun)


def _callback(
    dataset_dir: Path, settings: TrainingSettings, trial: Trial, context: SearchContext, model_uri: str
) -> SuccessiveHalvingCallback:
    """Returns the callback that compares a trial with those of the same space, data and training."""
    summary = prepared.load(dataset_dir, ())[1]
    same = {name: value for name, value in asdict(settings).items() if name not in IRRELEVANT}
    search = digest_of(
        {
            "search": [context.space, context.pick_by, context.run],
            "training": {**same, "model_id": settings.model_id},
            "data": summary.fingerprint,
            "version": __version__,
        }
    )
    board = scoreboard_of(search, settings.checkpoints, model_uri)
    return SuccessiveHalvingCallback(
        digest_of(trial)[:16], context, summary.task.validation_metric(context.pick_by), board
    )
