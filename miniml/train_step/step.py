"""Runs the train stage: on this machine, or on several nodes of a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniml.model.manifest import Manifest
from miniml.search.plan import on_its_own, pins_of, run_arguments_of
from miniml.settings.arguments import settings_given
from miniml.settings.nodes import NodeSettings
from miniml.settings.training import TrainingSettings
from miniml.train_step.watched import Trained, TrainingRequest, fine_tune_watched


@dataclass(frozen=True)
class ArtifactLocation:
    """The location of an artifact."""

    path: Path
    """The path on this machine."""
    uri: str
    """The address in the store, or a path if there is no store."""


def run_train_step(
    given: Mapping[str, Any],
    trial: str,
    pins: str,
    dataset: ArtifactLocation,
    model: ArtifactLocation,
    report: Path,
) -> Trained | Manifest:
    """Trains a model, and writes the training report.

    Args:
        given: The stage's settings by name, and `options`.
        trial: The trial of a search, whose values replace the settings; "" outside a search.
        pins: The pins of the sources (see `miniml.sources.pins`); "" if a trial has them, or nothing is pinned.
        dataset: The prepared dataset.
        model: Where to write the model.
        report: The file for the training report.

    Returns:
        An object with the model's digest and metrics; both are empty for a trial that failed.

    Raises:
        MinimlError: as `fine_tune_watched` or `fine_tune_on_nodes`.
    """
    training, nodes = settings_given({**given, **run_arguments_of(trial)}, TrainingSettings, NodeSettings)
    pins = pins or pins_of(trial)
    if training.num_nodes == 1:
        return fine_tune_watched(
            TrainingRequest(dataset.path, model.path, training, trial, model.uri, pins, report)
        )
    from miniml.train_job.sdk import Step
    from miniml.train_job.train_on_nodes import fine_tune_on_nodes  # Only here: one node needs no Kubernetes.
    from miniml.train_step.report import write_trial_report

    step = Step.in_this_pod(os.environ.get("KFP_POD_NAME", ""), container="main")
    alone = on_its_own(training, trial)
    trained = fine_tune_on_nodes(dataset.uri, model.path, model.uri, alone, nodes, step, pins=pins)
    write_trial_report(model.path, report)
    return trained
