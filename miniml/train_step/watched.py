"""Trains in a child process, which is started again from its last checkpoint if it dies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miniml.model import manifest
from miniml.search.failure import read_failure
from miniml.search.plan import with_trial
from miniml.settings.command_line import words_of
from miniml.settings.training import TrainingSettings
from miniml.supervision.supervisor import Program, Retries, run_supervised


@dataclass(frozen=True)
class TrainingRequest:
    """The arguments of the train step."""

    dataset_dir: Path
    model_dir: Path
    settings: TrainingSettings
    trial: str = ""
    """The trial of a search (see `miniml.search.plan`); "" outside a search."""
    model_uri: str = ""
    """The address at which the caller will store the model; "" if it will not."""
    pins: str = ""
    """The pins of the sources (see `miniml.sources.pins`)."""
    report: Path | None = None
    """The file for the training report, if one is wanted."""

    def words(self) -> list[str]:
        """Returns the command line arguments for `python -m miniml.train_step`."""
        named = {"trial": self.trial, "model-uri": self.model_uri, "pins": self.pins, "report": self.report}
        return [
            str(self.dataset_dir),
            str(self.model_dir),
            *words_of(self.settings),
            *(f"--{name}={value}" for name, value in named.items() if value),
        ]


@dataclass(frozen=True)
class Trained:
    """The digest and the metrics of the model; both are empty for a trial that failed."""

    digest: str
    metrics: dict[str, float]


def fine_tune_watched(request: TrainingRequest, retries: Retries | None = None) -> Trained:
    """Trains in a child process, and starts it again from its last checkpoint if a retry may succeed.

    Args:
        request: What to train.
        retries: How often to retry, and after what time.

    Raises:
        MinimlError: as `run_supervised`.
    """
    program = Program(
        module="miniml.train_step",
        words=request.words(),
        output=request.model_dir,
        training=with_trial(request.settings, request.trial),
        name="the training",
    )
    run_supervised(program, retries)
    if read_failure(request.model_dir):
        return Trained("", {})
    model = manifest.read(request.model_dir)
    return Trained(model.digest, model.metrics)
