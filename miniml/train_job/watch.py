"""Follows a TrainJob to its end: prints the log of its first node, and explains a failure."""

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
from miniml.progress import PASSING, duration, logger, passing
from miniml.train_job.sdk import NODE, job_path

_INDEX = "batch.kubernetes.io/job-completion-index"
_LAST_LINES = 15
_EVENTS = 5
_DEADLINE = "DeadlineExceeded"
"""The beginning of Trainer's reason for a job that took longer than its activeDeadlineSeconds."""
_KILLED = 128 + signal.SIGKILL
_DESCRIPTIONS = {
    ExitStatus.STOPPED: "was stopped by SIGTERM",
    ExitStatus.UNAVAILABLE: "lost the store or the hub",
    ExitStatus.UNFORESEEN: "failed (another node may be gone)",
    _KILLED: "was killed",
}
"""Describes the exit statuses after which a node is started again."""


@dataclass(frozen=True)
class WatchTimeouts:
    """The time limits of watching a TrainJob, in seconds."""

    poll_interval: float = 2.0
    """The time between two requests for the job's state."""
    idle: float = 15.0
    """The time without a line of the log after which the job's state is checked: another node may have failed."""
    no_pods: float = 300.0
    """The time until the job has pods. Trainer creates them within seconds, unless something prevents it."""
    unreachable: float = 600.0
    """The time without an answer of the API server. An upgrade may take minutes, while the training continues."""
    not_ready: float = 120.0
    """The time until Trainer's webhook accepts a TrainJob, about 90 s after it was started."""


def follow(cluster: Cluster, namespace: str, name: str, num_nodes: int, timeouts: WatchTimeouts) -> None:
    """Waits until the job is complete, and prints the log of its first node.

    Trainer's runtimes and Kubernetes' Jobs start a failed pod again. If the exit status says that it would fail again,
    the function does not wait for that.

    Args:
        cluster: The cluster.
        namespace: The namespace of the job.
        name: The name of the job.
        num_nodes: The number of its nodes.
        timeouts: The time limits.

    Raises:
        InterruptedJobError: the job failed after nodes were lost.
        TrainJobError: the job failed, was deleted, or cannot start. The message has conditions, events and logs.
        ClusterError: the API server refuses a request, or did not answer for too long.
    """
    start = answered = time.monotonic()
    log, reporter = (
        NodeLog(cluster, namespace, timeouts.idle),
        _StatusReporter(f"{namespace}/{name}", num_nodes),
    )
    while True:
        try:
            job, pods = cluster.get(job_path(namespace, name)), _nodes(cluster, namespace, name)
        except UnreachableError as error:
            if time.monotonic() - answered > timeouts.unreachable:
                raise
            logger.info(f"the training goes on unseen: {error}")
            time.sleep(timeouts.poll_interval)
            continue
        answered = time.monotonic()
        first = [pod for pod in pods if _rank(pod) == 0]
        if job is None:
            raise TrainJobError(f"TrainJob {namespace}/{name} was deleted by somebody else while it trained.")
        if is_true(job, "Complete"):
            log.print_new(first)
            return
        if final := _permanent_error(pods):
            log.print_new(first)
            raise TrainJobError(f"the training on {num_nodes} nodes ended: {final}")
        if reason := _failure(job, pods, log, answered - start, timeouts):
            log.print_new(first)
            interrupted = reporter.node_lost and is_true(job, "Failed") and _DEADLINE not in reason
            failure = InterruptedJobError if interrupted else TrainJobError
            raise failure(_diagnosis(cluster, job, pods, log, reason))
        reporter.report(job, pods)
        if awaited := reporter.awaited:
            passing(f"waiting for {awaited} of {num_nodes} nodes · {duration(answered - start)}")
        if not log.print_new(first):
            time.sleep(timeouts.poll_interval)


class InterruptedJobError(TrainJobError):
    """The TrainJob lost nodes more often than a Job starts them again (its backoffLimit)."""


class _StatusReporter:
    """Prints the state of the nodes whenever it changes."""

    def __init__(self, job: str, num_nodes: int) -> None:
        self.awaited = num_nodes
        """The number of nodes that neither run nor are done."""
        self.node_lost = False
        """Whether a node was ever replaced, or stopped by SIGTERM."""
        self._job, self._num_nodes = job, num_nodes
        self._printed = ""
        self._pods: dict[int, str] = {}

    def report(self, job: dict[str, Any], pods: list[Pod]) -> None:
        """Prints replaced nodes, and the state of the job if it has changed."""
        for pod in pods:
            rank, name = _rank(pod), pod["metadata"]["name"]
            if (before := self._pods.get(rank, name)) != name:
                logger.info(f"node {rank} was replaced: pod {name} in place of {before}")
                self.node_lost = True
            self._pods[rank] = name
            self.node_lost |= any(end["exitCode"] == ExitStatus.STOPPED for end in _ends(pod))
        state = self._state(job, pods)
        if state != self._printed:
            self._printed = state
            logger.info(f"TrainJob {self._job}: {state}")

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
    """Prints the log of the first node, each line once, even if the connection breaks or the container restarts."""

    def __init__(self, cluster: Cluster, namespace: str, idle: float) -> None:
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self._cluster, self._namespace, self._idle = cluster, namespace, idle
        self._pod, self._restarts, self._last_error = "", 0, ""
        # A log can be requested from a second on, so the lines of that second that were printed already are skipped.
        self._second, self._in_second = "", set[str]()

    def print_new(self, first: list[Pod]) -> bool:
        """Prints new lines of the first node's log until there are none, and returns whether there were any.

        Args:
            first: The first node's pod, or an empty list if there is none yet.
        """
        status = _container(first[0]) if first else {}
        if not status or ("waiting" in status.get("state", {}) and not status.get("restartCount")):
            return False
        if (name := first[0]["metadata"]["name"]) != self._pod:
            self._pod, self._restarts, self._second, self._in_second = name, 0, "", set()
        printed = False
        try:
            if status.get("restartCount", 0) > self._restarts and "running" in status["state"]:
                missed = self._cluster.previous_log(self._namespace, self._pod, NODE, since=self._second)
                self._restarts = status["restartCount"]
                for stamped in missed:
                    printed = self._print(stamped) or printed
            for stamped in self._cluster.following_log(
                self._namespace, self._pod, NODE, since=self._second, idle=self._idle
            ):
                printed = self._print(stamped) or printed
        except ClusterError as error:
            # A log may not exist yet, or be lost with its node. The job's conditions show the result.
            if str(error) != self._last_error:
                self._last_error = str(error)
                logger.info(f"no log of {self._pod}: {error}")
        return printed

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
    """Returns the newest pod of each rank, in the order of the ranks."""
    labels = f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={NODE}"
    pods = cluster.pods_with(namespace, labels)
    pods.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    newest = {_rank(pod): pod for pod in pods}
    return [newest[rank] for rank in sorted(newest)]


def _rank(pod: Pod) -> int:
    return int(pod["metadata"]["labels"][_INDEX])


def _container(pod: Pod) -> dict[str, Any]:
    """Returns the status of the container that trains, or {} if the pod has none yet."""
    return next((entry for entry in containers(pod) if entry["name"] == NODE), {})


def _state_of(pod: Pod) -> dict[str, Any]:
    state: dict[str, Any] = _container(pod).get("state", {})
    return state


def _ends(pod: Pod) -> list[dict[str, Any]]:
    """Returns the terminated states of the pod's container: the current one and the one before, if there are any."""
    states = (_state_of(pod), _container(pod).get("lastState", {}))
    return [state["terminated"] for state in states if "terminated" in state]


def _restarts(pod: Pod) -> list[str]:
    """Describes the last restart of the pod's container, in no part or one."""
    name, ended = pod["metadata"]["name"], _container(pod).get("lastState", {}).get("terminated")
    if not ended:
        return []
    how = _DESCRIPTIONS.get(ended["exitCode"], f"ended with status {ended['exitCode']}")
    return [f"pod {name} {how} and is started again ({_container(pod)['restartCount']} times so far)"]


def _permanent_error(pods: list[Pod]) -> str | None:
    """Returns the error of a node that would fail in the same way again, or None."""
    for pod in pods:
        name = pod["metadata"]["name"]
        for end in _ends(pod):
            message = (end.get("message") or "").strip()
            if end.get("reason") == "OOMKilled" or end["exitCode"] == ExitStatus.OUT_OF_MEMORY:
                how = f"pod {name} took more memory than it may ({message or end.get('reason', '')})"
                return f"{how}. Give it more (node_resources memory=...), or lower batch_size or max_length."
            if end["exitCode"] in (ExitStatus.FAILED, ExitStatus.MISUSED) and message:
                return message if _rank(pod) == 0 else f"{message} (on {name})"
    return None


def _failure(
    job: dict[str, Any], pods: list[Pod], log: NodeLog, waited: float, timeouts: WatchTimeouts
) -> str | None:
    """Returns why the job has failed, or why it will never complete; None if it may still complete."""
    for condition in conditions(job):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}"
    for pod in pods:
        if reason := start_error(pod):
            return reason
        for end in _ends(pod):
            if end["exitCode"] in (ExitStatus.FAILED, ExitStatus.MISUSED):
                return f"pod {pod['metadata']['name']} ended with status {end['exitCode']}, and would again"
    if not pods and not log.last and waited > timeouts.no_pods and not is_true(job, "Suspended"):
        return f"it has no pods after {duration(waited)}"
    return None


def _last_words(cluster: Cluster, pod: Pod, lines: int) -> list[str]:
    metadata = pod["metadata"]
    again = "running" in _state_of(pod)
    return cluster.log(
        metadata["namespace"], metadata["name"], NODE, lines=lines, previous=again
    ).splitlines()


def _diagnosis(cluster: Cluster, job: dict[str, Any], pods: list[Pod], log: NodeLog, reason: str) -> str:
    """Returns the reason, with the events and the last lines of the logs."""
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    names = {name, *(pod["metadata"]["name"] for pod in pods)}
    parts = [f"TrainJob {namespace}/{name} failed: {reason}"]
    parts += section("events", best_effort(lambda: cluster.warnings(namespace, names))[-_EVENTS:])
    parts += section("last lines of the first node", list(log.last))
    for pod in (pod for pod in pods if _rank(pod) and any(end["exitCode"] for end in _ends(pod))):
        parts += section(f"last lines of {pod['metadata']['name']}", _last_words(cluster, pod, _LAST_LINES))
    return "\n".join(parts)
