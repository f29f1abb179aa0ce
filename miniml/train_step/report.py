"""The page on what a training has left: a model, or, in a search, why there is none."""

from __future__ import annotations

from pathlib import Path

from miniml.model import manifest
from miniml.model.history import read_history
from miniml.search.failure import read_failure, write_failure_report
from miniml.training.report import write_report


def write_trial_report(model_dir: Path, path: Path) -> None:
    """Writes the page on what a training has left in `model_dir`: a model or, of a search, why there is none."""
    if failure := read_failure(model_dir):
        write_failure_report(failure, path)
    else:
        write_report(manifest.read(model_dir), read_history(model_dir), path)
