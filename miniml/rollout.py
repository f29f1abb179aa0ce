"""Waits until a new revision of an InferenceService serves, and says at once why it never will."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from miniml.cluster import Cluster
from miniml.errors import DeploymentError
from miniml.inference_service import REVISION
from miniml.pods import conditions, containers, is_true, listed, never_starts, tried, unschedulable
from miniml.progress import PASSING, duration, note

# What KServe and the Deployment behind it give up on. The first two are the Deployment's, the others KServe's.
_HOPELESS_REASONS = frozenset(
    {
        "FailedCreate",
        "ProgressDeadlineExceeded",
        "NoSupportingRuntime",
        "RuntimeNotRecognized",
        "RuntimeDisabled",
        "InvalidPredictorSpec",
    }
)
_LOG_LINES = 15
_EVENTS = 5


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds."""

    timeout: float
    """For the whole rollout."""
    between_looks: float = 2.0
    unschedulable: float = 60.0
    """A pod without a node may get one when a pod elsewhere ends, or an autoscaler brings a node."""
    stale_status: float = 20.0
    """KServe's status may still tell of the revision before, until its controller has looked."""


class SupersededError(DeploymentError):
    """Somebody else has changed the service in the meantime."""


def wait_until_ready(cluster: Cluster, applied: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """Waits until every pod is of the revision that was `applied`, and ready, and gives the object then.

    KServe's `status.observedGeneration` alone would not do: in Standard mode it is the generation of the
    Deployment (pkg/apis/serving/v1beta1/inference_service_status.go, PropagateRawStatus), which the autoscaler
    counts up too, and Ready stays true while old pods still answer. So the pods themselves are asked.

    Raises:
        DeploymentError: it cannot become ready, or did not in time; the message holds conditions, events and log.
        SupersededError: the object is no longer what was applied.
        ClusterError: the API server went away.
    """
    namespace, name = applied["metadata"]["namespace"], applied["metadata"]["name"]
    start = time.monotonic()
    told = ""
    while True:
        service = cluster.inference_service(namespace, name)
        if service is None or _revision(service) != _revision(applied):
            raise SupersededError(
                f"InferenceService {namespace}/{name} was {'deleted' if service is None else 'changed'} by somebody "
                f"else while it was waited for. Look who: kubectl get inferenceservice {name} -n {namespace} "
                f"-o yaml --show-managed-fields."
            )
        pods = cluster.pods(namespace, name)
        ours = [pod for pod in pods if _revision(pod) == _revision(applied)]
        waited = time.monotonic() - start
        state = _state(service, applied, pods, ours)
        if state.ready:
            note(f"{namespace}/{name} is ready after {duration(waited)}")
            return service
        if reason := _hopeless(service, ours, waited, patience):
            raise DeploymentError(_diagnosis(cluster, service, ours, reason))
        if waited >= patience.timeout:
            reason = f"not ready after {duration(patience.timeout)} (deploy_timeout): {state}"
            raise DeploymentError(_diagnosis(cluster, service, ours, reason))
        if str(state) != told:
            told = str(state)
            note(told)
        print(f"{PASSING}waiting for {namespace}/{name} · {told} · {duration(waited)}", flush=True)
        time.sleep(patience.between_looks)


@dataclass(frozen=True)
class _State:
    """How far a rollout is."""

    observed: bool
    service_ready: bool
    new_ready: int
    new: int
    wanted: int
    old: int

    @property
    def ready(self) -> bool:
        return self.observed and self.service_ready and not self.old and self.new_ready >= self.wanted

    def __str__(self) -> str:
        parts = [f"{self.new_ready} of {max(self.wanted, self.new)} new pods ready"]
        if self.old:
            parts.append(f"{self.old} of the revision before still there")
        if not self.observed:
            parts.append("KServe has not looked yet")
        elif not self.service_ready:
            parts.append("the service is not ready")
        return ", ".join(parts)


def _state(
    service: dict[str, Any], applied: dict[str, Any], pods: list[dict[str, Any]], ours: list[dict[str, Any]]
) -> _State:
    status = service.get("status", {})
    wanted = int(service["spec"]["predictor"].get("minReplicas", 1))
    new_ready = sum(is_true(pod, "Ready") for pod in ours)
    # Where all pods are of this revision, the controller has looked, whatever number it wrote down.
    observed = status.get("observedGeneration", 0) >= applied["metadata"]["generation"] or new_ready >= wanted
    return _State(
        observed, is_true(service, "Ready"), new_ready, len(ours), wanted, old=len(pods) - len(ours)
    )


def _revision(thing: dict[str, Any]) -> str | None:
    value: str | None = (thing["metadata"].get("annotations") or {}).get(REVISION)
    return value


def _hopeless(
    service: dict[str, Any], pods: list[dict[str, Any]], waited: float, patience: Patience
) -> str | None:
    """Why waiting longer would not help, if so."""
    for pod in pods:
        if reason := never_starts(pod, nor_again=True):
            return reason
        if waited >= patience.unschedulable and (reason := unschedulable(pod)):
            return f"pod {pod['metadata']['name']} finds no node: {reason}"
    if waited >= patience.stale_status:
        for condition in _troubles(service):
            if condition.get("reason") in _HOPELESS_REASONS:
                return f"{condition['reason']}: {condition.get('message', '')}"
    return None


def _troubles(service: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions that are not true, and KServe's report of a model that failed."""
    troubles = [entry for entry in conditions(service) if entry["status"] != "True"]
    failure = service.get("status", {}).get("modelStatus", {}).get("lastFailureInfo")
    return [*troubles, {"type": "ModelStatus", "status": "False", **failure}] if failure else troubles


def _diagnosis(cluster: Cluster, service: dict[str, Any], pods: list[dict[str, Any]], reason: str) -> str:
    """The reason, and what a person would look up next."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    parts = [f"InferenceService {namespace}/{name} does not come to serve: {reason}"]
    parts += listed(
        "conditions",
        [
            f"{entry['type']}={entry['status']} {entry.get('reason', '')} {entry.get('message', '')}".rstrip()
            for entry in _troubles(service)
        ],
    )
    names = {name, f"{name}-predictor", *(pod["metadata"]["name"] for pod in pods)}
    parts += listed("events", tried(lambda: cluster.warnings(namespace, names))[-_EVENTS:])
    for pod, container in _failing(pods):
        restarted = container.get("restartCount", 0) > 0
        log = cluster.log(namespace, pod, container["name"], lines=_LOG_LINES, previous=restarted)
        parts += listed(f"last lines of {pod}/{container['name']}", log.splitlines())
    return "\n".join(parts)


def _failing(pods: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The newest pod's name and its first container that is not ready: the others wait for it or are like it."""
    for pod in pods[-1:]:
        for container in containers(pod):
            done = container.get("state", {}).get("terminated", {}).get("exitCode") == 0
            if not container.get("ready") and not done:
                return [(pod["metadata"]["name"], container)]
    return []
