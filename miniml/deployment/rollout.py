"""Waits until a new revision of an InferenceService serves, and says at once why it never will."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from miniml.cluster import events
from miniml.cluster.api import WEBHOOK_AWAY, Cluster
from miniml.cluster.inference_service import REVISION
from miniml.cluster.pods import (
    conditions,
    containers,
    has_ended,
    is_true,
    listed,
    never_starts,
    tried,
    unschedulable,
)
from miniml.errors import DeploymentError
from miniml.escaping import clipped
from miniml.progress import duration, note, passing
from miniml.resource_names import FIELD_MANAGER

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
# Only while KServe says one of these is its lastFailureInfo of now: it is never cleared.
_INVALID_SPEC = "InvalidSpec"
_MODEL_FAILED = (_INVALID_SPEC, "BlockedByFailedLoad")
_LOG_LINES = 15


@dataclass(frozen=True)
class RolloutTimeouts:
    """How long to wait for what, in seconds."""

    timeout: float
    """For the whole rollout."""
    between_looks: float = 2.0
    unschedulable: float = 60.0
    """A pod without a node may get one when a pod elsewhere ends, or an autoscaler brings a node."""
    trouble: float = 20.0
    """What the status tells of may pass: another pod ends, and a quota has room again."""
    stale_trouble: float = 60.0
    """What it told of before the object was applied may be of the revision before, until KServe has looked: after a
    restart its controller waits for the lease of the one before."""
    webhook: float = 120.0
    """While KServe's one webhook is away, no pod can be made; seen: 32 s."""


class SupersededError(DeploymentError):
    """Somebody else has changed the service in the meantime."""


def wait_until_ready(cluster: Cluster, applied: dict[str, Any], patience: RolloutTimeouts) -> dict[str, Any]:
    """Waits until every pod is of the revision that was `applied`, and ready, and gives the object then.

    KServe's `status.observedGeneration` says nothing of it: in Standard mode it is the generation of the Deployment
    (pkg/apis/serving/v1beta1/inference_service_status.go, PropagateRawStatus), and Ready stays true while old pods
    still answer. So the pods themselves are asked.

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
        state = _state(service, pods, ours)
        if state.ready:
            note(f"{namespace}/{name} is ready after {duration(waited)}")
            return service
        reason = _hopeless(service, applied, ours, waited, patience)
        if reason is None and waited >= patience.timeout:
            reason = f"not ready after {duration(patience.timeout)} (deploy_timeout): {state}"
        if reason is not None:
            raise DeploymentError(_diagnosis(cluster, service, ours, reason))
        if str(state) != told:
            told = str(state)
            note(told)
        passing(f"waiting for {namespace}/{name} · {told} · {duration(waited)}")
        time.sleep(patience.between_looks)


@dataclass(frozen=True)
class _State:
    """How far a rollout is."""

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


def _revision(thing: dict[str, Any]) -> str | None:
    value: str | None = (thing["metadata"].get("annotations") or {}).get(REVISION)
    return value


def _hopeless(
    service: dict[str, Any],
    applied: dict[str, Any],
    pods: list[dict[str, Any]],
    waited: float,
    patience: RolloutTimeouts,
) -> str | None:
    """Why waiting longer would not help, if so."""
    for pod in pods:
        if has_ended(pod):
            continue  # Another one takes its place.
        if reason := never_starts(pod, nor_again=True):
            return reason
        if waited >= patience.unschedulable and (reason := unschedulable(pod)):
            return f"pod {pod['metadata']['name']} finds no node: {reason}"
    stale = _troubles(applied, [])
    for trouble in _troubles(service, pods):
        if trouble.get("reason") in _HOPELESS_REASONS and waited >= _lasts(trouble, stale, patience):
            return _reason_and_message(trouble)
    return None


def _lasts(trouble: dict[str, Any], stale: list[dict[str, Any]], patience: RolloutTimeouts) -> float:
    """For how many seconds a trouble may still pass."""
    if WEBHOOK_AWAY in trouble.get("message", ""):
        return patience.webhook
    return patience.stale_trouble if trouble in stale else patience.trouble


def _troubles(service: dict[str, Any], pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conditions that are not as they should be and, where it is of now, KServe's report of a model that failed.

    Where the new revision has `pods`, its spec was not invalid: KServe would have made none.
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
    """The reason, and what a person would look up next: each thing once."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    parts = [f"InferenceService {namespace}/{name} does not come to serve: {reason}"]
    troubles = [(_condition(entry), _reason_and_message(entry)) for entry in _troubles(service, pods)]
    parts += listed("conditions", events.each_once(reason, [(text, said or text) for text, said in troubles]))
    told = "\n".join([reason, *(said for _, said in troubles)])
    parts += listed("events", tried(lambda: _warnings(cluster, service, pods, told)))
    for pod, container in _failing(pods):
        restarted = container.get("restartCount", 0) > 0
        log = cluster.log(namespace, pod, container["name"], lines=_LOG_LINES, previous=restarted)
        parts += listed(f"last lines of {pod}/{container['name']}", log.splitlines())
    return "\n".join(parts)


def _warnings(cluster: Cluster, service: dict[str, Any], pods: list[dict[str, Any]], told: str) -> list[str]:
    """What the cluster warned of in this rollout and is not `told` yet."""
    metadata = service["metadata"]
    found = events.of_rollout(
        cluster.warning_events(metadata["namespace"]),
        metadata["name"],
        {pod["metadata"]["name"] for pod in pods},
        since=_applied_at(metadata),
    )
    lines = events.each_once(told, [(events.line(event), events.news(event)) for event in found])
    return lines[: events.MAX_EVENTS]


def _applied_at(metadata: dict[str, Any]) -> str:
    """When deploy last changed the object, by the API server's clock; "" where it does not say."""
    times = [entry.get("time", "") for entry in metadata.get("managedFields") or [] if _is_ours(entry)]
    return max(times, default="")


def _is_ours(entry: dict[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"


def _failing(pods: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The newest pod's name and its first container that is not ready: the others wait for it or are like it."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))[-1:]:
        for container in containers(pod):
            done = container.get("state", {}).get("terminated", {}).get("exitCode") == 0
            if not container.get("ready") and not done:
                return [(pod["metadata"]["name"], container)]
    return []
