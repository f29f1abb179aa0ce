"""What the train stage does: it trains here or on several nodes, as its arguments and its trial say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniml.model.manifest import Manifest
from miniml.search.plan import given_of, on_its_own, pins_of
from miniml.settings.arguments import settings_given
from miniml.settings.nodes import NodeSettings
from miniml.settings.training import TrainingSettings
from miniml.train_step.supervisor import Request, Trained, fine_tune_watched


@dataclass(frozen=True)
class Place:
    """Where an artifact is."""

    path: Path
    """On this machine."""
    uri: str
    """In the store; a path where there is none."""


def run_train_step(
    given: Mapping[str, Any], dataset: Place, model: Place, report: Path
) -> Trained | Manifest:
    """Trains on `dataset`, puts the model at `model` and a page on the training at `report`; gives digest and figures.

    Args:
        given: The stage's arguments by name: settings, `options`, `trial` and `pins`. What a trial says of the run's
            settings goes before them.

    Raises:
        MinimlError: as `fine_tune_watched` or `fine_tune_on_nodes`.
    """
    trial: str = given["trial"]
    training, nodes = settings_given({**given, **given_of(trial)}, TrainingSettings, NodeSettings)
    pins = given["pins"] or pins_of(trial)
    if training.num_nodes == 1:
        return fine_tune_watched(Request(dataset.path, model.path, training, trial, model.uri, pins, report))
    from miniml.train_job.sdk import Step
    from miniml.train_job.train_on_nodes import fine_tune_on_nodes  # Only here: one node needs no Kubernetes.
    from miniml.train_step.report import write_trial_report

    step = Step.in_this_pod(os.environ.get("KFP_POD_NAME", ""), container="main")
    alone = on_its_own(training, trial)
    trained = fine_tune_on_nodes(dataset.uri, model.path, model.uri, alone, nodes, step, pins=pins)
    write_trial_report(model.path, report)
    return trained
