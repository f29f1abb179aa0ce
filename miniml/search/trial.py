"""A training of a search: as any other, but one that comes to nothing says so, and lets the other trials go on."""

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
from miniml.search.plan import SearchContext, read, with_trial
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
    """Trains with the values of `trial`, a JSON object, in place of the settings' own; where it is empty, as any other.

    Where a trial comes to nothing on any machine (its training diverges, say), `model_dir` holds no model but the
    reason, and the result has neither digest nor metrics.

    Raises:
        MinimlError: as `fine_tune`; of a trial, only what may go better another time.
    """
    if not trial:
        return fine_tune(dataset_dir, model_dir, settings, model_uri, pins=pins, split=split)
    begun = time.monotonic()
    values, contest = read(trial)
    tried = with_trial(settings, trial)
    logger.info(f"trial: {describe_trial(values)}")
    halving = _callback(dataset_dir, settings, values, contest, model_uri) if contest else None
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
            contest=digest_of(asdict(contest)) if contest else "",
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
    dataset_dir: Path, settings: TrainingSettings, trial: Trial, contest: SearchContext, model_uri: str
) -> SuccessiveHalvingCallback:
    """The trial among the others of its search: those of the same space, data and training."""
    summary = prepared.load(dataset_dir, ())[1]
    same = {name: value for name, value in asdict(settings).items() if name not in IRRELEVANT}
    search = digest_of(
        {
            "contest": [contest.space, contest.pick_by, contest.run],
            "training": {**same, "model_id": settings.model_id},
            "data": summary.fingerprint,
            "version": __version__,
        }
    )
    board = scoreboard_of(search, settings.checkpoints, model_uri)
    return SuccessiveHalvingCallback(
        digest_of(trial)[:16], contest, summary.task.validation_metric(contest.pick_by), board
    )
