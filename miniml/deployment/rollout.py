"""Waits until a new revision of an InferenceService is ready, and stops early if it cannot become so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from miniml.cluster import events
from miniml.cluster.api import WEBHOOK_AWAY, Cluster
from miniml.cluster.inference_service import REVISION
from miniml.cluster.pods import (
    best_effort,
    conditions,
    containers,
    has_ended,
    is_true,
    section,
    start_error,
    unschedulable,
)
from miniml.errors import DeploymentError
from miniml.escaping import clipped
from miniml.progress import duration, logger, passing
from miniml.resource_names import FIELD_MANAGER

# Reasons in conditions with which a rollout has failed. The first two are the Deployment's, the others KServe's.
_FATAL_REASONS = frozenset(
    {
        "FailedCreate",
        "ProgressDeadlineExceeded",
        "NoSupportingRuntime",
        "RuntimeNotRecognized",
        "RuntimeDisabled",
        "InvalidPredictorSpec",
    }
)
# KServe never clears lastFailureInfo. It is current only with one of these values of transitionStatus.
_INVALID_SPEC = "InvalidSpec"
_MODEL_FAILED = (_INVALID_SPEC, "BlockedByFailedLoad")
_LOG_LINES = 15


@dataclass(frozen=True)
class RolloutTimeouts:
    """The time limits of a rollout, and of each kind of problem during it, in seconds."""

    timeout: float
    """The limit of the whole rollout."""
    poll_interval: float = 2.0
    """The time between two requests for the state."""
    unschedulable: float = 60.0
    """The limit for a pod without a node: it may get one when another pod ends, or an autoscaler adds a node."""
    trouble: float = 20.0
    """The limit for a failed condition: it may pass, for example when another pod ends and a quota has room again."""
    stale_trouble: float = 60.0
    """The limit for a condition that had failed before the object was applied. It may be about the previous revision
    until KServe updates it: after a restart its controller first waits for the lease of its predecessor."""
    webhook: float = 120.0
    """The limit for a webhook of KServe that does not answer, without which no pod can be created; 32 s were seen."""


class SupersededError(DeploymentError):
    """Somebody else changed the service while its rollout was waited for."""


def wait_until_ready(cluster: Cluster, applied: dict[str, Any], timeouts: RolloutTimeouts) -> dict[str, Any]:
    """Waits until all pods are ready and of the revision that was applied.

    The pods decide, because KServe's status does not: in Standard mode its `observedGeneration` is the generation of
    the Deployment (pkg/apis/serving/v1beta1/inference_service_status.go, PropagateRawStatus), and Ready stays true
    while old pods still answer.

    Args:
        cluster: The cluster.
        applied: The InferenceService as the API server returned it.
        timeouts: How long to wait.

    Returns:
        The InferenceService as it is once it is ready.

    Raises:
        DeploymentError: It cannot become ready, or did not in time; the message holds conditions, events and log.
        SupersededError: The object is no longer what was applied.
        ClusterError: The API server does not answer.
    """
    namespace, name = applied["metadata"]["namespace"], applied["metadata"]["name"]
    start = time.monotonic()
    noted = ""
    while True:
        service = cluster.inference_service(namespace, name)
        if service is None or _revision(service) != _revision(applied):
            raise SupersededError(
                f"InferenceService {namespace}/{name} was {'deleted' if service is None else 'changed'} by somebody "
                f"else while it was waited for. To see by whom: kubectl get inferenceservice {name} -n {namespace} "
                f"-o yaml --show-managed-fields."
            )
        pods = cluster.pods(namespace, name)
        ours = [pod for pod in pods if _revision(pod) == _revision(applied)]
        waited = time.monotonic() - start
        state = _state(service, pods, ours)
        if state.ready:
            logger.info(f"{namespace}/{name} is ready after {duration(waited)}")
            return service
        reason = _fatal(service, applied, ours, waited, timeouts)
        if reason is None and waited >= timeouts.timeout:
            reason = f"not ready after {duration(timeouts.timeout)} (deploy_timeout): {state}"
        if reason is not None:
            raise DeploymentError(_diagnosis(cluster, service, ours, reason))
        if str(state) != noted:
            noted = str(state)
            logger.info(noted)
        passing(f"waiting for {namespace}/{name} · {noted} · {duration(waited)}")
        time.sleep(timeouts.poll_interval)


@dataclass(frozen=True)
class _State:
    """The progress of a rollout, in numbers of pods."""

    service_ready: bool
    new_ready: int
    new: int
    wanted: int
    old: int

    @property
    def ready(self) -> bool:
        return self.service_ready and not self.old and self.new_ready >= self.wanted

    def __str__(self) -> str:
        parts = [f"{self.new_ready} of {max(self.wanted, self.new)} new pods ready"]
        if not self.new:
            parts.append("none made yet")
        if self.old:
            parts.append(f"{self.old} of the revision before still there")
        if self.new_ready >= self.wanted and not self.service_ready:
            parts.append("the service is not ready")
        return ", ".join(parts)


def _state(service: dict[str, Any], pods: list[dict[str, Any]], ours: list[dict[str, Any]]) -> _State:
    new = [pod for pod in ours if not has_ended(pod)]
    return _State(
        service_ready=is_true(service, "Ready"),
        new_ready=sum(is_true(pod, "Ready") for pod in new),
        new=len(new),
        wanted=int(service["spec"]["predictor"].get("minReplicas", 1)),
        old=sum(not has_ended(pod) for pod in pods) - len(new),
    )


def _revision(obj: dict[str, Any]) -> str | None:
    value: str | None = (obj["metadata"].get("annotations") or {}).get(REVISION)
    return value


def _fatal(
    service: dict[str, Any],
    applied: dict[str, Any],
    pods: list[dict[str, Any]],
    waited: float,
    timeouts: RolloutTimeouts,
) -> str | None:
    """Returns why it is useless to wait longer, or None."""
    for pod in pods:
        if has_ended(pod):
            continue  # Another pod replaces it.
        if reason := start_error(pod, crashes=True):
            return reason
        if waited >= timeouts.unschedulable and (reason := unschedulable(pod)):
            return f"pod {pod['metadata']['name']} finds no node: {reason}"
    stale = _troubles(applied, [])
    for trouble in _troubles(service, pods):
        if trouble.get("reason") in _FATAL_REASONS and waited >= _may_last(trouble, stale, timeouts):
            return _reason_and_message(trouble)
    return None


def _may_last(trouble: dict[str, Any], stale: list[dict[str, Any]], timeouts: RolloutTimeouts) -> float:
    """Returns for how many seconds a trouble may last before it counts as fatal."""
    if WEBHOOK_AWAY in trouble.get("message", ""):
        return timeouts.webhook
    return timeouts.stale_trouble if trouble in stale else timeouts.trouble


def _troubles(service: dict[str, Any], pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the conditions that are not true and, if it is current, KServe's report of a model that failed.

    If the new revision has `pods`, its spec is valid: KServe creates none for an invalid one.
    """
    troubles = [
        entry for entry in conditions(service) if entry["status"] != "True" and entry["type"] != "Stopped"
    ]
    model = service.get("status", {}).get("modelStatus", {})
    status, failure = model.get("transitionStatus"), model.get("lastFailureInfo")
    if not failure or status not in _MODEL_FAILED or (status == _INVALID_SPEC and pods):
        return troubles
    return [*troubles, {"type": "ModelStatus", "status": status, **failure}]


def _condition(entry: dict[str, Any]) -> str:
    return f"{entry['type']}={entry['status']} {_reason_and_message(entry)}".rstrip()


def _reason_and_message(trouble: dict[str, Any]) -> str:
    message = clipped(trouble.get("message", ""), events.LONGEST)
    return ": ".join(part for part in (trouble.get("reason"), message) if part)


def _diagnosis(cluster: Cluster, service: dict[str, Any], pods: list[dict[str, Any]], reason: str) -> str:
    """Returns the reason with conditions, events and the end of the log, without repetitions."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    parts = [f"InferenceService {namespace}/{name} does not become ready: {reason}"]
    troubles = [(_condition(entry), _reason_and_message(entry)) for entry in _troubles(service, pods)]
    lines = [(text, message or text) for text, message in troubles]
    parts += section("conditions", events.without_repetitions(reason, lines))
    known = "\n".join([reason, *(message for _, message in troubles)])
    parts += section("events", best_effort(lambda: _warnings(cluster, service, pods, known)))
    for pod, container in _failing(pods):
        restarted = container.get("restartCount", 0) > 0
        log = cluster.log(namespace, pod, container["name"], lines=_LOG_LINES, previous=restarted)
        parts += section(f"last lines of {pod}/{container['name']}", log.splitlines())
    return "\n".join(parts)


def _warnings(cluster: Cluster, service: dict[str, Any], pods: list[dict[str, Any]], known: str) -> list[str]:
    """Returns the cluster's warnings about this rollout that do not repeat what is `known`."""
    metadata = service["metadata"]
    found = events.of_rollout(
        cluster.warning_events(metadata["namespace"]),
        metadata["name"],
        {pod["metadata"]["name"] for pod in pods},
        since=_applied_at(metadata),
    )
    lines = events.without_repetitions(
        known, [(events.line(event), events.message(event)) for event in found]
    )
    return lines[: events.MAX_EVENTS]


def _applied_at(metadata: dict[str, Any]) -> str:
    """Returns when deploy last changed the object, by the API server's clock, or "" if unknown."""
    times = [entry.get("time", "") for entry in metadata.get("managedFields") or [] if _is_ours(entry)]
    return max(times, default="")


def _is_ours(entry: dict[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"


def _failing(pods: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Returns the newest pod's name with its first container that is not ready; others wait for it or are like it."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))[-1:]:
        for container in containers(pod):
            done = container.get("state", {}).get("terminated", {}).get("exitCode") == 0
            if not container.get("ready") and not done:
                return [(pod["metadata"]["name"], container)]
    return []
