"""Makes the Argo workflow that Kubeflow Pipelines 2.17.0 makes of a run of ours, at some moment of it.

Names and layers are those of kubeflow/pipelines 2.17.0, backend/src/v2/compiler/argocompiler (dag.go, container.go),
and of a real cluster (issue 18, section 2): its workflowDefaults give every template a retryStrategy, so that each node
is a Retry above its attempts: train → train(0) → executor → executor(0).
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

NAME = "text-classification-x7k2p"
RUN_ID = "run-0"
_PHASES = {"RUNNING": "Running", "PENDING": "Pending", "FAILED": "Failed", "SKIPPED": "Skipped"}
_ENDED = frozenset({"Succeeded", "Failed", "Error", "Skipped", "Omitted"})


@dataclass
class Moment:
    """How far a run is."""

    stages: dict[str, str] = field(default_factory=dict)
    """The states of its stages: RUNNING, PENDING (the pod has not started), SUCCEEDED, FAILED, CACHED, OMITTED (left
    out after a failure). A stage in a loop is told by its iteration: train/0. `gate: REJECTED` makes the condition
    false."""
    phase: str = "Running"
    """The workflow's own."""
    messages: dict[str, str] = field(default_factory=dict)
    """What Argo says of a stage's last pod, or of a driver's (preflight-driver, root-driver)."""
    lost: dict[str, list[str]] = field(default_factory=dict)
    """By its stage, what became of earlier pods: each was in error, and is retried."""
    failed_drivers: dict[str, str] = field(default_factory=dict)
    """By their names, drivers that fail, and why."""
    reads: dict[str, list[str]] = field(default_factory=dict)
    """By stage, the addresses of the artifacts that it reads; its driver writes them into the patch of the pod."""
    terminated: bool = False
    """Whether somebody has cancelled the run (execution_spec.go, GetTerminatePatch)."""


def workflow(moment: Moment, *, compressed: bool = False) -> dict[str, Any]:
    """The object; `compressed` as Argo keeps its nodes once they are beyond 1 MiB (workflow/packer)."""
    nodes = _Nodes(moment).made()
    status: dict[str, Any] = {"phase": moment.phase}
    if compressed:
        status["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()
    else:
        status["nodes"] = nodes
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": NAME, "namespace": "kubeflow", "labels": {"pipeline/runid": RUN_ID}},
        "spec": {"activeDeadlineSeconds": 0} if moment.terminated else {},
        "status": status,
    }


def pod_name(stage: str, attempt: int = 0) -> str:
    """The name of a stage's pod, as Argo forms it."""
    path = f"{NAME}(0).root(0){_place(stage)}.{stage.partition('/')[0]}(0).executor({attempt})"
    return f"{NAME}-system-container-impl-{_hash(path)}"


def node_id(name: str) -> str:
    """Argo's id of a node: the workflow's name, and FNV-1a of the node's (argo-workflows, workflow_types.go)."""
    return NAME if name == NAME else f"{NAME}-{_hash(name)}"


def _hash(text: str) -> int:
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def _place(stage: str) -> str:
    """Below which groups a stage lies."""
    name, _, iteration = stage.partition("/")
    if iteration:
        return f".for-loop-1(0).iteration-iterations({iteration}:{iteration})(0).iteration-item(0)"
    return ".condition-1(0)" if name == "deploy" else ""


class _Nodes:
    """Collects the nodes of one moment."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        self._nodes: dict[str, dict[str, Any]] = {}
        self._begun = 0

    def made(self) -> dict[str, Any]:
        phase = self._moment.phase
        top = self._group(NAME, NAME, phase)
        self._driver(top, "root-driver")
        if "root-driver" in self._moment.failed_drivers:
            return self._nodes
        root = self._group(f"{top}.root", "root", phase)
        for stage, state in self._moment.stages.items():
            self._stage(root, stage, state)
        return self._nodes

    def _stage(self, root: str, stage: str, state: str) -> None:
        name, _, iteration = stage.partition("/")
        parent = root
        if iteration:
            parent = self._iteration(root, iteration)
        elif name == "deploy":
            self._driver(root, "condition-1-driver")
            parent = self._group(f"{root}.condition-1", "condition-1", self._group_phase(state))
        self._begun += 20
        self._driver(parent, f"{name}-driver")
        if f"{name}-driver" in self._moment.failed_drivers or state == "OMITTED":
            self._node(f"{parent}.{name}", name, "Skipped", "Omitted")
            return
        step = self._group(f"{parent}.{name}", name, self._group_phase(state), instant=state == "CACHED")
        self._executor(step, stage, state)
        if state == "REJECTED":
            self._driver(root, "condition-1-driver")
            self._node(f"{root}.condition-1", "condition-1", "Skipped", "Skipped")

    def _iteration(self, root: str, iteration: str) -> str:
        phase = self._moment.phase
        loop = self._group(f"{root}.for-loop-1", "for-loop-1", phase)
        name = f"iteration-iterations({iteration}:{iteration})"
        item = self._group(f"{loop}.{name}", name, phase)
        return self._group(f"{item}.iteration-item", "iteration-item", phase)

    def _executor(self, step: str, stage: str, state: str) -> None:
        name, template = f"{step}.executor", "system-container-impl"
        if state == "CACHED":  # Its `when` does not hold (container.go, cachedDecision).
            self._node(name, "executor", "Skipped", "Skipped")
            return
        lost = self._moment.lost.get(stage, [])
        children = [node_id(f"{name}({number})") for number in range(len(lost) + 1)]
        self._node(name, "executor", "Retry", self._group_phase(state), children)
        for number, message in enumerate(lost):
            self._pod(f"{name}({number})", template, "Error", message)
        message = self._moment.messages.get(stage, "main: Error (exit code 1)" if state == "FAILED" else "")
        self._pod(f"{name}({len(lost)})", template, _phase(state), message)

    def _driver(self, parent: str, name: str) -> None:
        """What prepares a step, in a pod of its own."""
        failed = self._moment.failed_drivers.get(name)
        waits = self._moment.messages.get(name)
        phase = "Error" if failed else "Pending" if waits else "Succeeded"
        template = "system-container-driver"
        path = f"{parent}.{name}"
        self._node(path, name, "Retry", self._group_phase(phase.upper()), [node_id(f"{path}(0)")])
        self._pod(f"{path}(0)", template, phase, failed or waits or "")
        if read := self._moment.reads.get(name.removesuffix("-driver")):
            self._nodes[node_id(f"{path}(0)")]["outputs"] = {"parameters": _driver_outputs(read)}

    def _group(self, name: str, display_name: str, phase: str, *, instant: bool = False) -> str:
        """A Retry and its one attempt, whose name is given back."""
        attempt = f"{name}(0)"
        self._node(name, display_name, "Retry", phase, [node_id(attempt)], instant=instant)
        self._node(attempt, f"{display_name}(0)", "DAG", phase, instant=instant)
        return attempt

    def _group_phase(self, state: str) -> str:
        if self._moment.terminated and self._moment.phase == "Failed":
            return "Failed"
        return {"PENDING": "Running", "ERROR": "Error"}.get(state, _phase(state))

    def _pod(self, name: str, template: str, phase: str, message: str) -> None:
        self._node(name, name.rpartition(".")[2], "Pod", phase, message=message, template=template)

    def _node(
        self,
        name: str,
        display_name: str,
        kind: str,
        phase: str,
        children: list[str] | None = None,
        **more: Any,
    ) -> None:
        seconds = 0 if more.get("instant") or kind == "Skipped" else 65
        node = {
            "id": node_id(name),
            "name": name,
            "displayName": display_name,
            "type": kind,
            "phase": phase,
            "templateName": more.get("template", ""),
            "startedAt": _time(self._begun),
            "finishedAt": _time(self._begun + seconds) if phase in _ENDED else None,
        }
        if more.get("message"):
            node["message"] = more["message"]
        if children:
            node["children"] = children
        self._nodes[node["id"]] = node


def _driver_outputs(read: list[str]) -> list[dict[str, str]]:
    """What a driver hands on (container.go), its patch as initPodSpecPatch (src/v2/driver/driver.go) has it."""
    artifacts = {
        f"input{number}": {"artifacts": [{"name": "7", "uri": uri}]} for number, uri in enumerate(read)
    }
    given = json.dumps({"inputs": {"artifacts": artifacts}, "outputs": {}})
    command = [
        "/kfp-launcher/launch",
        "--pipeline_name",
        "p",
        "--executor_input",
        given,
        "--component_spec",
        "{}",
    ]
    patch = {"containers": [{"name": "main", "command": command}]}
    return [
        {"name": "pod-spec-patch", "value": json.dumps(patch)},
        {"name": "cached-decision", "value": "false"},
    ]


def _phase(state: str) -> str:
    return _PHASES.get(state, "Succeeded")


def _time(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:{rest:02}Z"
