"""Follows a TrainJob to its end: prints what its first node prints, and says why it fails where it does."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from miniml.cluster import Cluster, UnreachableError
from miniml.errors import ClusterError, TrainJobError
from miniml.pods import Pod, conditions, containers, is_true, listed, never_starts, tried, unschedulable
from miniml.progress import PASSING, duration, note
from miniml.trainer_sdk import NODE, job_path

ERROR = "error: "
"""Begins the line with which `python -m miniml.training` ends for a reason that trying again would not change."""

_INDEX = "batch.kubernetes.io/job-completion-index"
_LAST_LINES = 15
_EVENTS = 5


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds."""

    between_looks: float = 2.0
    idle: float = 15.0
    """After so long without a line of the log, the job is looked at: another node may be in trouble."""
    no_pods: float = 300.0
    """Trainer makes them within seconds, unless something forbids it."""
    unreachable: float = 600.0
    """A control plane that is being upgraded may be away for minutes, while the training goes on."""


def follow(cluster: Cluster, namespace: str, name: str, num_nodes: int, patience: Patience) -> None:
    """Returns when the job is complete.

    A pod that fails is started again by the cluster, as Trainer's runtimes and Kubernetes' Jobs have it; what
    would fail again is not waited for.

    Raises:
        TrainJobError: it failed, was deleted, or cannot start; the message holds conditions, events and logs.
        ClusterError: the API server went away for good.
    """
    start = answered = time.monotonic()
    log, told = NodeLog(cluster, namespace, patience.idle), ""
    while True:
        try:
            job, pods = cluster.get(job_path(namespace, name)), _nodes(cluster, namespace, name)
        except UnreachableError as error:
            if time.monotonic() - answered > patience.unreachable:
                raise
            note(f"the training goes on unseen: {error}")
            time.sleep(patience.between_looks)
            continue
        answered = time.monotonic()
        first = [pod for pod in pods if _rank(pod) == 0]
        if job is None:
            raise TrainJobError(f"TrainJob {namespace}/{name} was deleted by somebody else while it trained.")
        if is_true(job, "Complete"):
            log.bring(first)
            return
        ended = _ended(pods)
        reason = _failure(job, pods, log, answered - start, patience)
        if reason or ended:
            log.bring(first)
            if said := log.error or _error_elsewhere(cluster, ended):
                raise TrainJobError(f"the training on {num_nodes} nodes ended: {said}")
        if reason:
            raise TrainJobError(_diagnosis(cluster, job, pods, log, reason))
        state = _state(job, pods, num_nodes)
        if state != told:
            told = state
            note(f"TrainJob {namespace}/{name}: {state}")
        if not log.bring(first):
            print(f"{PASSING}waiting for {num_nodes} nodes · {duration(answered - start)}", flush=True)
            time.sleep(patience.between_looks)


class NodeLog:
    """What the first node prints, each line once, though connections break and containers start again."""

    def __init__(self, cluster: Cluster, namespace: str, idle: float) -> None:
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self.error = ""
        """The last line that names an error, without "error: "."""
        self._cluster, self._namespace, self._idle = cluster, namespace, idle
        self._pod, self._restarts, self._told = "", 0, ""
        # A log can be asked for from a second on: what was printed in that second already is left out then.
        self._second, self._in_second = "", set[str]()

    def bring(self, first: list[Pod]) -> bool:
        """Prints what is new of the first node's pod, as long as its container prints; False if it was nothing."""
        status = next((entry for pod in first for entry in containers(pod) if entry["name"] == NODE), None)
        if status is None or ("waiting" in status.get("state", {}) and not status.get("restartCount")):
            return False
        if (name := first[0]["metadata"]["name"]) != self._pod:
            self._pod, self._restarts, self._second, self._in_second = name, 0, "", set()
        brought = False
        try:
            if status.get("restartCount", 0) > self._restarts and "running" in status["state"]:
                missed = self._cluster.previous_log(self._namespace, self._pod, NODE, since=self._second)
                self._restarts = status["restartCount"]
                for stamped in missed:
                    brought = self._print(stamped) or brought
            for stamped in self._cluster.following_log(
                self._namespace, self._pod, NODE, since=self._second, idle=self._idle
            ):
                brought = self._print(stamped) or brought
        except ClusterError as error:
            # A log may be gone with its node, or not yet there: the job's conditions tell how it went.
            if str(error) != self._told:
                self._told = str(error)
                note(f"no log of {self._pod}: {error}")
        return brought

    def _print(self, stamped: str) -> bool:
        stamp, _, line = stamped.partition(" ")
        if second := re.fullmatch(r"([\d-]+T[\d:]+)(?:\.\d+)?(Z|[+-][\d:]+)", stamp):
            if (since := second[1] + second[2]) != self._second:
                self._second, self._in_second = since, set()
            if stamped in self._in_second:
                return False
            self._in_second.add(stamped)
        print(line, flush=True)
        if line.startswith(ERROR):
            self.error = line.removeprefix(ERROR)
        if not line.startswith(PASSING):
            self.last.append(line)
        return True


def _nodes(cluster: Cluster, namespace: str, name: str) -> list[Pod]:
    """The pods in the order of their ranks, of each rank the newest."""
    labels = f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={NODE}"
    pods = cluster.pods_with(namespace, labels)
    pods.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    newest = {_rank(pod): pod for pod in pods}
    return [newest[rank] for rank in sorted(newest)]


def _rank(pod: Pod) -> int:
    return int(pod["metadata"]["labels"][_INDEX])


def _state(job: dict[str, Any], pods: list[Pod], num_nodes: int) -> str:
    running = sum(any("running" in entry.get("state", {}) for entry in containers(pod)) for pod in pods)
    parts = [f"{running} of {num_nodes} nodes run"]
    if is_true(job, "Suspended"):
        parts.append("it waits in a queue (suspended)")
    for pod in pods:
        name = pod["metadata"]["name"]
        if reason := unschedulable(pod):
            parts.append(f"pod {name} finds no node: {reason}")
        for entry in containers(pod):
            if ended := entry.get("lastState", {}).get("terminated"):
                parts.append(
                    f"pod {name} ended with status {ended['exitCode']} and is started again "
                    f"({entry['restartCount']} times so far)"
                )
    return ", ".join(parts)


def _failure(
    job: dict[str, Any], pods: list[Pod], log: NodeLog, waited: float, patience: Patience
) -> str | None:
    """Why it has failed, or waiting longer would not help, if so."""
    for condition in conditions(job):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    for pod in pods:
        if reason := never_starts(pod):
            return reason
        for entry in containers(pod):
            if any(state.get("reason") == "OOMKilled" for state in _ends(entry)):
                return (
                    f"pod {pod['metadata']['name']} took more memory than it may (OOMKilled). Give it more "
                    f"(node_resources memory=...), or lower batch_size or max_length."
                )
    if not pods and not log.last and waited > patience.no_pods and not is_true(job, "Suspended"):
        return f"it has no pods after {duration(waited)}"
    return None


def _ends(container: dict[str, Any]) -> list[dict[str, Any]]:
    """How it ended, now and the last time."""
    states = (container.get("state", {}), container.get("lastState", {}))
    return [state["terminated"] for state in states if "terminated" in state]


def _ended(pods: list[Pod]) -> list[Pod]:
    """Those that have failed, though they may be running again."""
    return [
        pod for pod in pods if any(end.get("exitCode") for entry in containers(pod) for end in _ends(entry))
    ]


def _error_elsewhere(cluster: Cluster, pods: list[Pod]) -> str:
    """The error that one of these pods ended with, if its log names one."""
    for pod in pods:
        for line in _last_words(cluster, pod, lines=100):  # torchrun has much to say after it.
            if line.startswith(ERROR):
                return f"{line.removeprefix(ERROR)} (on {pod['metadata']['name']})"
    return ""


def _last_words(cluster: Cluster, pod: Pod, lines: int) -> list[str]:
    metadata = pod["metadata"]
    again = any("running" in entry.get("state", {}) for entry in containers(pod))
    return cluster.log(
        metadata["namespace"], metadata["name"], NODE, lines=lines, previous=again
    ).splitlines()


def _diagnosis(cluster: Cluster, job: dict[str, Any], pods: list[Pod], log: NodeLog, reason: str) -> str:
    """The reason, and what a person would look up next."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    names = {name, *(pod["metadata"]["name"] for pod in pods)}
    parts = [f"TrainJob {namespace}/{name} failed: {reason}"]
    parts += listed("events", tried(lambda: cluster.warnings(namespace, names))[-_EVENTS:])
    parts += listed("last lines of the first node", list(log.last))
    for pod in _ended([pod for pod in pods if _rank(pod)]):
        parts += listed(f"last lines of {pod['metadata']['name']}", _last_words(cluster, pod, _LAST_LINES))
    return "\n".join(parts)
