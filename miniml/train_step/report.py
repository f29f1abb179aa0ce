"""Writes the report of a training, or of a trial that has failed."""

from __future__ import annotations

from pathlib import Path

from miniml.model import manifest
from miniml.model.history import read_history
from miniml.search.failure import read_failure, write_failure_report
from miniml.training.report import write_report


def write_trial_report(model_dir: Path, path: Path) -> None:
    """Writes an HTML page to `path`: the training report of the model in `model_dir`, or why the trial failed."""
    if failure := read_failure(model_dir):
        write_failure_report(failure, path)
    else:
        write_report(manifest.read(model_dir), read_history(model_dir), path)
