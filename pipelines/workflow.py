"""Reads an Argo workflow: which of a run's pods belong to which stage, how they fare, and what Argo says of them."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.run_state import OVER, Attempt, Stages, Turn, is_condition

_STATES = {
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Skipped": "SKIPPED",
    "Failed": "FAILED",
    "Error": "FAILED",
}
_GOING_ON = frozenset({"PENDING", "RUNNING"})


@dataclass(frozen=True)
class Node:
    """A step of the workflow, one of its pods, or a group of steps."""

    name: str
    """With the names of the groups around it: run.root.train(0).executor(0)."""
    display_name: str
    state: str
    """As in `Turn`; empty for what was left out because something before it failed."""
    message: str
    pod: str
    """Its name; empty for what is no pod."""
    seconds: float | None

    @property
    def loop_index(self) -> int:
        """The place in its loop, from 0; 0 outside of loops. An iteration's name ends with (index:item)."""
        found = re.search(r"\((\d+):", self.name)
        return int(found[1]) if found else 0

    @property
    def own_name(self) -> str:
        """Its name without the number of the attempt: train-driver of train-driver(0)."""
        return re.sub(r"\(\d+\)$", "", self.display_name)


def nodes_of(workflow: dict[str, Any]) -> list[Node]:
    """The workflow's nodes, in the order of their names: 2 before 10.

    Beyond 1 MiB Argo keeps them compressed, or, where it is told to, in a database of its own: there are none then.
    """
    return sorted(
        (_node(workflow, node) for node in raw_nodes(workflow)), key=lambda node: _natural(node.name)
    )


def raw_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The workflow's nodes as Argo writes them."""
    status = workflow.get("status") or {}
    nodes = status.get("nodes") or {}
    if packed := status.get("compressedNodes"):
        nodes = json.loads(gzip.decompress(base64.b64decode(packed)))
    return list(nodes.values())


def was_terminated(workflow: dict[str, Any]) -> bool:
    """Whether KFP was asked to end the run: it then gives the workflow no time any more."""
    return bool((workflow.get("spec") or {}).get("activeDeadlineSeconds") == 0)


def stages_from_workflow(workflow: dict[str, Any], stages: list[str]) -> Stages | None:
    """Reads the stages from the workflow of a run; None where it tells nothing of them."""
    nodes = nodes_of(workflow)
    status = workflow.get("status") or {}
    if not nodes and status.get("phase") in ("Failed", "Error") and status.get("message"):
        return Stages(troubles={"the workflow": Attempt("", "FAILED", status["message"])})
    if not nodes:
        return None
    turns = [turn for stage in stages for turn in _turns(stage, nodes)]
    told = {attempt.pod for turn in turns for attempt in turn.attempts}
    last_pods = {node.own_name: node for node in nodes if node.pod}
    troubles = {
        name: Attempt(node.pod, node.state, node.message)
        for name, node in last_pods.items()
        if node.state in ("PENDING", "FAILED") and node.message and node.pod not in told
    }
    return Stages(
        turns,
        complete=not any(node.state in _GOING_ON for node in nodes),
        condition_was_false=any(
            is_condition(node.display_name) and node.state == "SKIPPED" for node in nodes
        ),
        troubles=troubles,
    )


def _turns(stage: str, nodes: list[Node]) -> list[Turn]:
    steps = {node.loop_index: node for node in nodes if node.display_name == stage}
    # What prepares the step, in a pod of its own; where that fails or does not start, the step has no pod yet.
    drivers = {node.loop_index: node for node in nodes if node.display_name == f"{stage}-driver"}
    turns = []
    for index in sorted(steps.keys() | drivers.keys()):
        step, driver = steps.get(index), drivers.get(index)
        turn = _turn(stage, index + 1, step, nodes) if step and step.state else None
        turns.append(turn or _prepared(stage, index + 1, driver, nodes))
    return turns


def _turn(stage: str, number: int, step: Node, nodes: list[Node]) -> Turn:
    below = _below(step, nodes)
    attempts = _attempts(below)
    state = step.state
    if state == "SUCCEEDED" and not attempts and any(node.state == "SKIPPED" for node in below):
        state = "CACHED"
    elif state == "RUNNING" and attempts and attempts[-1].state == "PENDING":
        state = "PENDING"
    return Turn(stage, number, state, step.seconds if state in OVER else None, attempts)


def _prepared(stage: str, number: int, driver: Node | None, nodes: list[Node]) -> Turn:
    """The turn of a step that has not begun: as its driver fares."""
    attempts = _attempts(_below(driver, nodes)) if driver else ()
    if driver and driver.state == "FAILED":
        return Turn(stage, number, "FAILED", driver.seconds, attempts)
    if attempts and attempts[-1].state == "PENDING":
        return Turn(stage, number, "PENDING", None, attempts)
    return Turn(stage, number)


def _below(group: Node, nodes: list[Node]) -> list[Node]:
    """The group itself, its attempts, and what is in them."""
    return [
        node for node in nodes if node is group or node.name.startswith((f"{group.name}(", f"{group.name}."))
    ]


def _attempts(nodes: Iterable[Node]) -> tuple[Attempt, ...]:
    return tuple(Attempt(node.pod, node.state, node.message) for node in nodes if node.pod)


def _node(workflow: dict[str, Any], node: dict[str, Any]) -> Node:
    begun, ended = _time(node.get("startedAt")), _time(node.get("finishedAt"))
    return Node(
        name=node["name"],
        display_name=node.get("displayName", ""),
        state=_STATES.get(node.get("phase", ""), ""),
        message=node.get("message", ""),
        pod=_pod_name(workflow, node) if node.get("type") == "Pod" else "",
        seconds=(ended - begun).total_seconds() if begun and ended else None,
    )


def _pod_name(workflow: dict[str, Any], node: dict[str, Any]) -> str:
    """As Argo names pods: by workflow, template and the hash that ends the node's id.

    (kubeflow/pipelines 2.17.0, backend/src/common/util/workflow.go, RetrievePodName)
    """
    metadata = workflow.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if annotations.get("workflows.argoproj.io/pod-name-format") == "v1":
        return str(node["id"])
    return f"{metadata.get('name', '')}-{node.get('templateName', '')}-{node['id'].rpartition('-')[2]}"


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]
