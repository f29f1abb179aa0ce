"""Determines how a run ended, and whether its model was deployed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Literal

from miniml.errors import MinimlError
from miniml.kubeflow.run_server import RunServer
from miniml.kubeflow.run_state import RunState, Turn

DEPLOY = "deploy"
"""The name of the stage that deploys a model."""

Deployment = Literal["deployed", "rendered", "rejected", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and whether its model was deployed."""

    run: RunState
    state: str
    """SUCCEEDED, FAILED or CANCELED."""
    deployment: Deployment
    """Whether the model of a run that succeeded serves ("deployed"), was only written as YAML in a dry run
    ("rendered"), or was rejected by the gate; "unknown" where neither Kubeflow Pipelines nor the cluster says so."""
    failed: list[Turn] = field(default_factory=list)
    """The stages that failed."""
    troubles: dict[str, str] = field(default_factory=dict)
    """Why other tasks failed, such as the driver of the whole run, by the task's name."""


def outcome_of(run: RunState, server: RunServer) -> Outcome:
    """Returns the outcome of a run that has ended; the cluster is asked where the run's record leaves it open."""
    return Outcome(
        run,
        "CANCELED" if run.cancelled and run.state == "FAILED" else run.state,
        _deployment(run, server),
        [turn for turn in run.stages.turns if turn.state == "FAILED"],
        {name: pod.message for name, pod in run.stages.troubles.items() if pod.state == "FAILED"},
    )


def _deployment(run: RunState, server: RunServer) -> Deployment:
    """Decides by the state of deploy, or the gate's condition, or else the InferenceService's label."""
    [deploy, *_] = run.turns_of(DEPLOY)
    if deploy.state in ("SUCCEEDED", "CACHED"):
        return "rendered" if run.argument("dry_run") else "deployed"
    if run.stages.complete and run.stages.condition_was_false:
        return "rejected"
    return "deployed" if _serves(run, server) else "unknown"


def _serves(run: RunState, server: RunServer) -> bool:
    """Whether the InferenceService was deployed by this run."""
    from miniml.cluster.inference_service import RUN

    namespace, name = run.argument("namespace"), run.argument("service_name")
    if not (namespace and name and server.cluster):
        return False
    with contextlib.suppress(MinimlError):
        service = server.cluster.inference_service(str(namespace), str(name)) or {}
        labels = service.get("metadata", {}).get("labels") or {}
        return bool(labels.get(RUN) == run.run_id)
    return False
