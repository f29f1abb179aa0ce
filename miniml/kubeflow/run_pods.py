"""What a run's pods say of themselves, where a kube configuration leads to them: why a step does not start, or failed.

They are asked where no workflow is to be had, which says the same.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from miniml.cluster.pods import Pod, containers, unschedulable
from miniml.kubeflow.run_state import Attempt, Stages, Turn, loop_index

_PHASES = {"Pending": "PENDING", "Running": "RUNNING", "Succeeded": "SUCCEEDED", "Failed": "FAILED"}
_NODE = "workflows.argoproj.io/node-name"
"""Which node of the workflow a pod is: ….root(0).train(0).executor(0)."""


def with_pods(stages: Stages, pods: list[Pod]) -> Stages:
    """The stages, with what their pods say. A stage that waits for its driver is told as one that waits."""
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    return replace(stages, turns=[_with_pods(turn, ordered) for turn in stages.turns])


def pods_of(stage: str, number: int, pods: list[Pod]) -> list[Pod]:
    """The pods of a stage's turn: its containers, or else the drivers that prepare them."""
    containers_of = rf"\.{re.escape(stage)}(\(\d+\))?\.executor(\(\d+\))?$"
    drivers_of = rf"\.{re.escape(stage)}-driver(\(\d+\))?$"
    own = [pod for pod in pods if loop_index(_node(pod)) == number - 1]
    return [pod for pod in own if re.search(containers_of, _node(pod))] or [
        pod for pod in own if re.search(drivers_of, _node(pod))
    ]


def _with_pods(turn: Turn, pods: list[Pod]) -> Turn:
    own = pods_of(turn.stage, turn.number, pods)
    if not own or turn.state in ("SUCCEEDED", "CACHED", "SKIPPED"):
        return turn
    attempts = tuple(Attempt(_name(pod), _state(pod), _message(pod)) for pod in own)
    state = turn.state if turn.state == "FAILED" or attempts[-1].state != "PENDING" else "PENDING"
    return replace(turn, state=state, attempts=attempts)


def _message(pod: Pod) -> str:
    """Why it does not start, or how it failed; as Argo says it (getPendingReason, inferFailedReason)."""
    status = pod.get("status", {})
    if status.get("message"):  # An eviction has one.
        return f"{status.get('reason', '')}: {status['message']}".removeprefix(": ")
    if reason := unschedulable(pod):
        return f"Unschedulable: {reason}"
    for container in containers(pod):
        state = container.get("state", {})
        if waiting := state.get("waiting"):
            return f"{waiting.get('reason', '')}: {waiting.get('message', '')}".removesuffix(": ")
        if (ended := state.get("terminated")) and ended.get("exitCode"):
            return f"{container['name']}: {ended.get('reason')} (exit code {ended['exitCode']})"
    return ""


def _state(pod: Pod) -> str:
    return _PHASES.get(pod.get("status", {}).get("phase", ""), "")


def _name(pod: Pod) -> str:
    return str(pod["metadata"]["name"])


def _node(pod: Pod) -> str:
    annotations: dict[str, Any] = pod["metadata"].get("annotations") or {}
    return str(annotations.get(_NODE, ""))
