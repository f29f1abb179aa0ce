"""A training of a search: as any other, but one that comes to nothing says so, and lets the other trials go on."""

from __future__ import annotations

import json
from pathlib import Path

from miniml.errors import TrainingError
from miniml.manifest import read
from miniml.progress import note
from miniml.search.failure import read_failure, write_failure, write_failure_report
from miniml.search.plan import told, with_trial
from miniml.settings import TrainingSettings
from miniml.training import TrainingResult, fine_tune
from miniml.training.report import write_report
from miniml.training_history import read_history


def fine_tune_trial(
    dataset_dir: Path, model_dir: Path, settings: TrainingSettings, trial: str, model_uri: str = ""
) -> TrainingResult:
    """Trains with the values of `trial`, a JSON object, in place of the settings' own; where it is empty, as any other.

    Where a trial comes to nothing on any machine (its training diverges, say), `model_dir` holds no model but the
    reason, and the result has neither digest nor metrics.

    Raises:
        MinimlError: as `fine_tune`; of a trial, only what may go better another time.
    """
    if not trial:
        return fine_tune(dataset_dir, model_dir, settings, model_uri)
    tried = with_trial(settings, trial)
    note(f"trial: {told(json.loads(trial))}")
    try:
        return fine_tune(dataset_dir, model_dir, tried, model_uri)
    except TrainingError as error:
        write_failure(model_dir, tried, str(error))
        note(f"no model: {error}")
        return TrainingResult("", {})


def write_trial_report(model_dir: Path, path: Path) -> None:
    """Writes the page on what `fine_tune_trial` left in `model_dir`: a training, or why there is no model."""
    if failure := read_failure(model_dir):
        write_failure_report(failure, path)
    else:
        write_report(read(model_dir), read_history(model_dir), path)
