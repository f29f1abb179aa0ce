"""Reads an Argo workflow: which of a run's pods belong to which stage, their states, and Argo's messages on them."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from miniml.kubeflow.run_state import GOING_ON, OVER, Attempt, Stages, Turn, is_condition, loop_index

_STATES = {
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Skipped": "SKIPPED",
    "Failed": "FAILED",
    "Error": "FAILED",
}
_MAX_UNPACKED = 2**26
"""The most bytes of a workflow's unpacked nodes; those of 20 trials are 8 MB."""
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Node:
    """A step of the workflow, one of its pods, or a group of steps."""

    name: str
    """The name, with the names of the groups around it: run.root.train(0).executor(0)."""
    display_name: str
    state: str
    """The state, as in `Turn`; empty for a node that was left out because an earlier one failed."""
    message: str
    pod: str
    """The pod's name; empty for a node that is not a pod."""
    seconds: float | None
    """The duration in seconds; None before the node has ended."""

    @property
    def loop_index(self) -> int:
        """The node's iteration in its loop, from 0; 0 outside of loops."""
        return loop_index(self.name)

    @property
    def own_name(self) -> str:
        """The name without the number of the attempt: train-driver for train-driver(0)."""
        return re.sub(r"\(\d+\)$", "", self.display_name)


def nodes_of(workflow: dict[str, Any]) -> list[Node]:
    """Returns the workflow's nodes in the natural order of their names: 2 before 10.

    Of a workflow above 1 MiB Argo compresses the nodes; or keeps them in a database, if so configured: then there are
    none.
    """
    return sorted(
        (_node(workflow, node) for node in raw_nodes(workflow)), key=lambda node: _natural(node.name)
    )


def raw_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the workflow's nodes as Argo writes them; malformed ones are left out."""
    status = _mapping(workflow.get("status"))
    packed = _text(status.get("compressedNodes"))
    nodes = _unpacked(packed) if packed else status.get("nodes")
    return [node for node in _mapping(nodes).values() if isinstance(node, dict)]


def _unpacked(packed: str) -> Any:
    """Returns the unpacked nodes; None where they cannot be read, or are far larger than those of any run."""
    unzip = zlib.decompressobj(_GZIP)
    try:
        text = unzip.decompress(base64.b64decode(packed), _MAX_UNPACKED)
        return json.loads(text) if unzip.eof else None
    except (ValueError, zlib.error, RecursionError):
        return None


def was_terminated(workflow: dict[str, Any]) -> bool:
    """Whether the run was cancelled: KFP then sets the workflow's deadline to 0 seconds."""
    return bool(_mapping(workflow.get("spec")).get("activeDeadlineSeconds") == 0)


def stages_from_workflow(workflow: dict[str, Any], stages: list[str]) -> Stages | None:
    """Reads the state of a run's stages from its workflow; returns None where the workflow has no nodes yet.

    Args:
        workflow: The Argo workflow.
        stages: The names of the pipeline's stages, in the order in which they run.
    """
    nodes = nodes_of(workflow)
    status = _mapping(workflow.get("status"))
    message = _text(status.get("message"))
    if not nodes and status.get("phase") in ("Failed", "Error") and message:
        return Stages(troubles={"the workflow": Attempt("", "FAILED", message)})
    if not nodes:
        return None
    turns = [turn for stage in stages for turn in _turns(stage, nodes)]
    own_pods = {attempt.pod for turn in turns for attempt in turn.attempts}
    last_pods = {node.own_name: node for node in nodes if node.pod}
    troubles = {
        name: Attempt(node.pod, node.state, node.message)
        for name, node in last_pods.items()
        if node.state in ("PENDING", "FAILED") and node.message and node.pod not in own_pods
    }
    return Stages(
        turns,
        complete=not any(node.state in GOING_ON for node in nodes),
        condition_was_false=any(
            is_condition(node.display_name) and node.state == "SKIPPED" for node in nodes
        ),
        troubles=troubles,
    )


def _turns(stage: str, nodes: list[Node]) -> list[Turn]:
    steps = {node.loop_index: node for node in nodes if node.display_name == stage}
    # A driver prepares the step in a pod of its own; where it fails or does not start, the step has no pod yet.
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
    """Returns the turn of a step that has not begun, with the state of its driver."""
    attempts = _attempts(_below(driver, nodes)) if driver else ()
    if driver and driver.state == "FAILED":
        return Turn(stage, number, "FAILED", driver.seconds, attempts)
    if attempts and attempts[-1].state == "PENDING":
        return Turn(stage, number, "PENDING", None, attempts)
    return Turn(stage, number)


def _below(group: Node, nodes: list[Node]) -> list[Node]:
    """Returns the group itself, its attempts, and the nodes within them."""
    return [
        node for node in nodes if node is group or node.name.startswith((f"{group.name}(", f"{group.name}."))
    ]


def _attempts(nodes: Iterable[Node]) -> tuple[Attempt, ...]:
    return tuple(Attempt(node.pod, node.state, node.message) for node in nodes if node.pod)


def _node(workflow: dict[str, Any], node: dict[str, Any]) -> Node:
    begun, ended = _time(node.get("startedAt")), _time(node.get("finishedAt"))
    return Node(
        name=_text(node.get("name")),
        display_name=_text(node.get("displayName")),
        state=_STATES.get(_text(node.get("phase")), ""),
        message=_text(node.get("message")),
        pod=_pod_name(workflow, node) if node.get("type") == "Pod" else "",
        seconds=(ended - begun).total_seconds() if begun and ended else None,
    )


def _pod_name(workflow: dict[str, Any], node: dict[str, Any]) -> str:
    """Returns the name that Argo gives to a node's pod: the workflow, the template, and the hash in the node's id.

    See RetrievePodName in kubeflow/pipelines 2.17.0, backend/src/common/util/workflow.go.
    """
    metadata, own_id = _mapping(workflow.get("metadata")), _text(node.get("id"))
    annotations = _mapping(metadata.get("annotations"))
    if annotations.get("workflows.argoproj.io/pod-name-format") == "v1":
        return own_id
    return f"{metadata.get('name', '')}-{node.get('templateName', '')}-{own_id.rpartition('-')[2]}"


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(_text(value))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns a sort key that orders numbers by value: by length, then by digits, as int() refuses very long ones."""
    parts = re.split(r"(\d+)", name)
    return [(len(digits := part.lstrip("0")), digits) if part.isdecimal() else (0, part) for part in parts]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
