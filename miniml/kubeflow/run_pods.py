"""Reads from a run's pods why a step does not start or why it failed, where a kube configuration gives access to them.

The pods are read only where the workflow, which says the same, is not available.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from miniml.cluster.pods import Pod, containers, unschedulable
from miniml.kubeflow.run_state import Attempt, Stages, Turn, loop_index

_PHASES = {"Pending": "PENDING", "Running": "RUNNING", "Succeeded": "SUCCEEDED", "Failed": "FAILED"}
_NODE = "workflows.argoproj.io/node-name"
"""The annotation with the name of a pod's node in the workflow: ….root(0).train(0).executor(0)."""


def with_pods(stages: Stages, pods: list[Pod]) -> Stages:
    """Returns the stages with the attempts that their pods are. A stage that waits for its driver is PENDING."""
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    return replace(stages, turns=[_with_pods(turn, ordered) for turn in stages.turns])


def pods_of(stage: str, number: int, pods: list[Pod]) -> list[Pod]:
    """Returns the pods of a stage's turn, or else the pods of the drivers that prepare it.

    Args:
        stage: The stage.
        number: The turn of a stage in a loop, from 1.
        pods: All pods of the run.
    """
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
    """Returns why a pod does not start, or how it failed, as Argo does (getPendingReason, inferFailedReason)."""
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
