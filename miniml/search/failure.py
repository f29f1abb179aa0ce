"""Writes and reads the folder of a failed trial: no model, but its settings and the reason of its failure.

The folder has no manifest, so no stage takes it for a model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miniml import __version__
from miniml.files.folders import written_whole
from miniml.model.manifest import FAILURE_NAME, OUTPUT_NAMES
from miniml.settings.training import TrainingSettings


@dataclass(frozen=True)
class Failure:
    """The content of `failure.json`."""

    training: dict[str, Any]
    """The training's arguments."""
    reason: str


def write_failure(model_dir: Path, settings: TrainingSettings, reason: str) -> None:
    """Writes the folder of a failed trial in place of a model.

    Args:
        model_dir: The folder.
        settings: The settings of the training.
        reason: Why it failed, for people to read.

    Raises:
        StorageError: the disk is full, or may not be written to.
    """
    text = json.dumps(asdict(Failure(asdict(settings), reason)), indent=2, ensure_ascii=False)
    with written_whole(model_dir, OUTPUT_NAMES) as folder:
        (folder / FAILURE_NAME).write_text(text + "\n", encoding="utf-8")


def read_failure(model_dir: Path) -> Failure | None:
    """Returns the failure that the folder records, or None if it holds a model."""
    path = model_dir / FAILURE_NAME
    return Failure(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def write_failure_report(failure: Failure, path: Path) -> None:
    """Writes an HTML page on the failure, in place of a training report."""
    from miniml.reports.plots import template  # Only here: reading a failure needs no templates.

    page = template("failure.html").render(version=__version__, failure=failure)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
