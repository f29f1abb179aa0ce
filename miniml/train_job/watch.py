"""Follows a TrainJob to its end: prints what its first node prints, and says why it fails where it does."""

from __future__ import annotations

import re
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from miniml.cluster.api import Cluster, UnreachableError
from miniml.cluster.pods import (
    Pod,
    best_effort,
    conditions,
    containers,
    is_true,
    section,
    start_error,
    unschedulable,
)
from miniml.errors import ClusterError, TrainJobError
from miniml.exit_status import ExitStatus
from miniml.progress import PASSING, duration, note, passing
from miniml.train_job.sdk import NODE, job_path

_INDEX = "batch.kubernetes.io/job-completion-index"
_LAST_LINES = 15
_EVENTS = 5
_DEADLINE = "DeadlineExceeded"
"""Begins Trainer's reason for the failure of a job that took longer than its activeDeadlineSeconds."""
_KILLED = 128 + signal.SIGKILL
_WORDS = {
    ExitStatus.STOPPED: "was stopped by SIGTERM",
    ExitStatus.UNAVAILABLE: "lost the store or the hub",
    ExitStatus.UNFORESEEN: "failed (another node may be gone)",
    _KILLED: "was killed",
}
"""Of the ends after which a node is started again."""


@dataclass(frozen=True)
class WatchTimeouts:
    """How long to wait for what, in seconds."""

    between_looks: float = 2.0
    idle: float = 15.0
    """After so long without a line of the log, the job is looked at: another node may be in trouble."""
    no_pods: float = 300.0
    """Trainer makes them within seconds, unless something forbids it."""
    unreachable: float = 600.0
    """A control plane that is being upgraded may be away for minutes, while the training goes on."""
    not_ready: float = 120.0
    """For Trainer's webhook, which refuses every TrainJob for some 90 s after it has been started."""


def follow(cluster: Cluster, namespace: str, name: str, num_nodes: int, patience: WatchTimeouts) -> None:
    """Returns when the job is complete.

    A pod that fails is started again by the cluster, as Trainer's runtimes and Kubernetes' Jobs have it; what
    would fail again, by its exit status, is not waited for.

    Raises:
        InterruptedJobError: the cluster gave it up, after nodes had been taken away.
        TrainJobError: it failed, was deleted, or cannot start; the message holds conditions, events and logs.
        ClusterError: the API server went away for good.
    """
    start = answered = time.monotonic()
    log, news = NodeLog(cluster, namespace, patience.idle), _News(f"{namespace}/{name}", num_nodes)
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
        if final := _final_error(pods):
            log.bring(first)
            raise TrainJobError(f"the training on {num_nodes} nodes ended: {final}")
        if reason := _failure(job, pods, log, answered - start, patience):
            log.bring(first)
            given_up = news.taken_away and is_true(job, "Failed") and _DEADLINE not in reason
            failure = InterruptedJobError if given_up else TrainJobError
            raise failure(_diagnosis(cluster, job, pods, log, reason))
        news.tell(job, pods)
        if awaited := news.awaited:
            passing(f"waiting for {awaited} of {num_nodes} nodes · {duration(answered - start)}")
        if not log.bring(first):
            time.sleep(patience.between_looks)


class InterruptedJobError(TrainJobError):
    """A TrainJob whose nodes were taken away oftener than a Job starts them again (its backoffLimit)."""


class _News:
    """Says how the nodes are, each change once."""

    def __init__(self, job: str, num_nodes: int) -> None:
        self.awaited = num_nodes
        """How many of them neither run nor are done."""
        self.taken_away = False
        """Whether one of them was ever replaced, or stopped by SIGTERM."""
        self._job, self._num_nodes = job, num_nodes
        self._told = ""
        self._pods: dict[int, str] = {}

    def tell(self, job: dict[str, Any], pods: list[Pod]) -> None:
        for pod in pods:
            rank, name = _rank(pod), pod["metadata"]["name"]
            if (before := self._pods.get(rank, name)) != name:
                note(f"node {rank} was replaced: pod {name} in place of {before}")
                self.taken_away = True
            self._pods[rank] = name
            self.taken_away |= any(end["exitCode"] == ExitStatus.STOPPED for end in _ends(pod))
        state = self._state(job, pods)
        if state != self._told:
            self._told = state
            note(f"TrainJob {self._job}: {state}")

    def _state(self, job: dict[str, Any], pods: list[Pod]) -> str:
        running = sum("running" in _state_of(pod) for pod in pods)
        done = sum(_state_of(pod).get("terminated", {}).get("exitCode") == 0 for pod in pods)
        self.awaited = self._num_nodes - running - done
        if done == self._num_nodes:
            return f"all {done} nodes are done"
        parts = [f"{running} of {self._num_nodes} nodes run", *([f"{done} done"] if done else [])]
        if is_true(job, "Suspended"):
            parts.append("it waits in a queue (suspended)")
        for pod in pods:
            if reason := unschedulable(pod):
                parts.append(f"pod {pod['metadata']['name']} finds no node: {reason}")
            parts += _restarts(pod)
        return ", ".join(parts)


class NodeLog:
    """What the first node prints, each line once, though connections break and containers start again."""

    def __init__(self, cluster: Cluster, namespace: str, idle: float) -> None:
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self._cluster, self._namespace, self._idle = cluster, namespace, idle
        self._pod, self._restarts, self._told = "", 0, ""
        # A log can be asked for from a second on: what was printed in that second already is left out then.
        self._second, self._in_second = "", set[str]()

    def bring(self, first: list[Pod]) -> bool:
        """Prints what is new of the first node's pod, as long as its container prints; False if it was nothing."""
        status = _container(first[0]) if first else {}
        if not status or ("waiting" in status.get("state", {}) and not status.get("restartCount")):
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


def _container(pod: Pod) -> dict[str, Any]:
    """The one that trains, as the pod's status has it; nothing where it has none yet."""
    return next((entry for entry in containers(pod) if entry["name"] == NODE), {})


def _state_of(pod: Pod) -> dict[str, Any]:
    state: dict[str, Any] = _container(pod).get("state", {})
    return state


def _ends(pod: Pod) -> list[dict[str, Any]]:
    """How its container ended, now and the last time."""
    states = (_state_of(pod), _container(pod).get("lastState", {}))
    return [state["terminated"] for state in states if "terminated" in state]


def _restarts(pod: Pod) -> list[str]:
    """How it ended the last time, if it was started again since."""
    name, ended = pod["metadata"]["name"], _container(pod).get("lastState", {}).get("terminated")
    if not ended:
        return []
    how = _WORDS.get(ended["exitCode"], f"ended with status {ended['exitCode']}")
    return [f"pod {name} {how} and is started again ({_container(pod)['restartCount']} times so far)"]


def _final_error(pods: list[Pod]) -> str | None:
    """What a node ended with that it would end with again, if one did."""
    for pod in pods:
        name = pod["metadata"]["name"]
        for end in _ends(pod):
            said = (end.get("message") or "").strip()
            if end.get("reason") == "OOMKilled" or end["exitCode"] == ExitStatus.OUT_OF_MEMORY:
                how = f"pod {name} took more memory than it may ({said or end.get('reason', '')})"
                return f"{how}. Give it more (node_resources memory=...), or lower batch_size or max_length."
            if end["exitCode"] in (ExitStatus.FAILED, ExitStatus.MISUSED) and said:
                return said if _rank(pod) == 0 else f"{said} (on {name})"
    return None


def _failure(
    job: dict[str, Any], pods: list[Pod], log: NodeLog, waited: float, patience: WatchTimeouts
) -> str | None:
    """Why it has failed, or waiting longer would not help, if so."""
    for condition in conditions(job):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    for pod in pods:
        if reason := start_error(pod):
            return reason
        for end in _ends(pod):
            if end["exitCode"] in (ExitStatus.FAILED, ExitStatus.MISUSED):
                return f"pod {pod['metadata']['name']} ended with status {end['exitCode']}, and would again"
    if not pods and not log.last and waited > patience.no_pods and not is_true(job, "Suspended"):
        return f"it has no pods after {duration(waited)}"
    return None


def _last_words(cluster: Cluster, pod: Pod, lines: int) -> list[str]:
    metadata = pod["metadata"]
    again = "running" in _state_of(pod)
    return cluster.log(
        metadata["namespace"], metadata["name"], NODE, lines=lines, previous=again
    ).splitlines()


def _diagnosis(cluster: Cluster, job: dict[str, Any], pods: list[Pod], log: NodeLog, reason: str) -> str:
    """The reason, and what a person would look up next."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    names = {name, *(pod["metadata"]["name"] for pod in pods)}
    parts = [f"TrainJob {namespace}/{name} failed: {reason}"]
    parts += section("events", best_effort(lambda: cluster.warnings(namespace, names))[-_EVENTS:])
    parts += section("last lines of the first node", list(log.last))
    for pod in (pod for pod in pods if _rank(pod) and any(end["exitCode"] for end in _ends(pod))):
        parts += section(f"last lines of {pod['metadata']['name']}", _last_words(cluster, pod, _LAST_LINES))
    return "\n".join(parts)
