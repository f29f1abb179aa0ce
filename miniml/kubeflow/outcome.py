"""How a run ended, and what became of its model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Literal

from miniml.errors import MinimlError
from miniml.kubeflow.run_server import RunServer
from miniml.kubeflow.run_state import RunState, Turn

DEPLOY = "deploy"
"""The stage that makes a model serve."""

Deployment = Literal["deployed", "rendered", "rejected", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: RunState
    state: str
    """SUCCEEDED, FAILED or CANCELED."""
    deployment: Deployment
    """What became of the model in a run that succeeded: it serves; it was only rendered (a dry run); the gate rejected
    it; or nobody could tell."""
    failed: list[Turn] = field(default_factory=list)
    """The stages that failed."""
    troubles: dict[str, str] = field(default_factory=dict)
    """What else failed, by its name, and why: the driver of the whole run, say."""


def outcome_of(run: RunState, server: RunServer) -> Outcome:
    """The outcome of a run that has ended; the server's cluster is asked for what the run's record leaves open."""
    return Outcome(
        run,
        "CANCELED" if run.cancelled and run.state == "FAILED" else run.state,
        _deployment(run, server),
        [turn for turn in run.stages.turns if turn.state == "FAILED"],
        {name: pod.message for name, pod in run.stages.troubles.items() if pod.state == "FAILED"},
    )


def _deployment(run: RunState, server: RunServer) -> Deployment:
    """As deploy fared, or the gate decided, or else as the service itself says."""
    [deploy, *_] = run.turns_of(DEPLOY)
    if deploy.state in ("SUCCEEDED", "CACHED"):
        return "rendered" if run.argument("dry_run") else "deployed"
    if run.stages.complete and run.stages.condition_was_false:
        return "rejected"
    return "deployed" if _serves(run, server) else "unknown"


def _serves(run: RunState, server: RunServer) -> bool:
    """Whether the InferenceService is this run's."""
    from miniml.cluster.inference_service import RUN

    namespace, name = run.argument("namespace"), run.argument("service_name")
    if not (namespace and name and server.cluster):
        return False
    with contextlib.suppress(MinimlError):
        service = server.cluster.inference_service(str(namespace), str(name)) or {}
        labels = service.get("metadata", {}).get("labels") or {}
        return bool(labels.get(RUN) == run.run_id)
    return False
