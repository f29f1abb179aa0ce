"""Estimates the size of a run's workflow on the cluster: above 1 MiB Argo compresses it, and KFP cannot read it.

KFP's API server makes an Argo workflow of a pipeline, and reads a run's state from the workflow's nodes. Of a workflow
whose JSON is longer than 1 MiB Argo writes the nodes compressed, and `task_details` stay as they were at that moment.
Most of the JSON is a few long strings, each of them several times. The structure is described by Kubeflow Pipelines
2.17.0 (backend/src/v2/compiler/argocompiler: container.go and dag.go; backend/src/v2/driver/driver.go:
initPodSpecPatch) and Argo Workflows 4.0 (workflow/controller/operator.go: initializeExecutableNode;
workflow/packer/packer.go):

- The workflow's arguments hold each component and each executor's container once.
- A task is three nodes: its driver, a DAG, and in it the executor. KFP's template defaults allow a retry of each, and a
  node that may be retried is two nodes, both with the template's inputs and outputs.
- A driver's inputs are the component, the task, the container and its Kubernetes settings; its output is the pod's
  patch, which is an input of the DAG and the executor: the patch is in six nodes, the driver's inputs are in two.
- The patch holds the component's source, the component, and the executor's input: every argument and artifact.
- A DAG (the pipeline, a condition, a loop, each turn of a loop) has a driver too, with the DAG's component and task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

LIMIT = 1024 * 1024
"""The most bytes of a workflow that Argo does not compress (MAX_WORKFLOW_SIZE); etcd's limit is about the same."""

_TRIES = 2
"""Nodes of each template's instance: the one that may be retried, and its only attempt."""
_NODE = 510
"""Bytes of a node without its inputs and outputs: names, times, children. It was fitted to two workflows on a cluster,
whose sizes it gives within 0.3 % (issue 18: 713 KB in 52 nodes, and 1,061,967 bytes in 87)."""
_OUTPUT = 300
"""The assumed length of a string that an earlier step outputs, such as the pins of the sources, or a trial."""
_STORE = "minio://mlpipeline/v2/artifacts/{pipeline}/" + 36 * "0" + "/{task}/" + 36 * "0" + "/{output}"
_OUTPUTS = "/tmp/kfp/outputs"  # noqa: S108  # in a pod
_SERVER = ["--ml_pipeline_server_address", "ml-pipeline.kubeflow", "--mlmd_server_address"]


@dataclass(frozen=True)
class WorkflowSize:
    """The size of a run's workflow."""

    nodes: int
    """The number of nodes."""
    by_task: dict[str, int]
    """The bytes of each task's nodes; for a task in a loop, of all its turns together."""
    arguments: int
    """The bytes of the workflow's own arguments."""

    @property
    def total(self) -> int:
        """The bytes of the whole workflow."""
        return sum(self.by_task.values()) + self.arguments


def workflow_size(compiled: str, arguments: Mapping[str, Any] | None = None, turns: int = 1) -> WorkflowSize:
    """Estimates the size of the workflow of a run that has succeeded.

    Args:
        compiled: The pipeline as YAML.
        arguments: The run's arguments, as the pipeline takes them; missing ones have the pipeline's defaults.
        turns: The number of turns of each loop.
    """
    spec, *others = yaml.safe_load_all(compiled)
    workflow = _Workflow(spec, others[0] if others else {}, dict(arguments or {}), turns)
    nodes = list(workflow.nodes())
    by_task: dict[str, int] = {}
    for task, node in nodes:
        by_task[task] = by_task.get(task, 0) + node
    return WorkflowSize(len(nodes), by_task, workflow.arguments())


def turns_that_fit(compiled: str, arguments: Mapping[str, Any] | None = None) -> int:
    """Returns the number of turns of its loop that a run may have within the limit."""
    one, two = (workflow_size(compiled, arguments, turns).total for turns in (1, 2))
    return 1 + (LIMIT - one) // (two - one)


def describe_size(compiled: str) -> str:
    """Returns a line with the size of the compiled pipeline's workflow, and its share of the limit."""
    size = workflow_size(compiled)
    line = f"{size.total:,} bytes on a cluster in {size.nodes} nodes, {size.total / LIMIT:.0%} of the limit"
    return line + (f"; {turns_that_fit(compiled)} trials fit" if "parameterIterator" in compiled else "")


class _Workflow:
    """A model of Argo's workflow, which computes the sizes of its nodes."""

    def __init__(
        self, spec: dict[str, Any], platform: dict[str, Any], arguments: dict[str, Any], turns: int
    ) -> None:
        self._spec, self._components, self._turns = spec, spec["components"], turns
        self._executors = spec["deploymentSpec"]["executors"]
        kubernetes = platform.get("platforms", {}).get("kubernetes", {})
        self._kubernetes = kubernetes.get("deploymentSpec", {}).get("executors", {})
        inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        self._values = {name: given.get("defaultValue") for name, given in inputs.items()} | arguments

    def arguments(self) -> int:
        """Returns the bytes of the workflow's own arguments."""
        every = [*self._components.values(), self._spec["root"], *self._executors.values(), self._kubernetes]
        return sum(_json_size(json.dumps(each)) for each in every)

    def nodes(self) -> Iterator[tuple[str, int]]:
        """Yields the task and the bytes of each node."""
        yield from self._instance("root", 0)  # the entry point
        yield from self._instance("root", _json_size(_json(self._spec["root"]), _json(self._values)))
        yield from self._dag("root", self._spec["root"])

    def _dag(self, name: str, component: dict[str, Any]) -> Iterator[tuple[str, int]]:
        yield from self._instance(name, 0)
        for task_name, task in component["dag"]["tasks"].items():
            inner = self._components[task["componentRef"]["name"]]
            if "parameterIterator" in task:
                yield from self._loop(task_name, task, inner)
            elif "dag" in inner:
                yield from self._instance(task_name, _json_size(_json(inner), _json(task)))
                yield from self._dag(task_name, inner)
            else:
                yield from self._container(task_name, task, inner)

    def _loop(self, name: str, task: dict[str, Any], inner: dict[str, Any]) -> Iterator[tuple[str, int]]:
        driver = _json_size(_json(inner), _json(task))
        yield from self._instance(name, 0)
        yield from self._instance(name, driver)
        yield name, _NODE  # the group of all turns
        for _ in range(self._turns):
            yield from self._instance(name, 0)
            yield from self._instance(name, driver)
            yield from self._dag(name, inner)

    def _container(
        self, name: str, task: dict[str, Any], component: dict[str, Any]
    ) -> Iterator[tuple[str, int]]:
        label = component["executorLabel"]
        container, kubernetes = self._executors[label]["container"], self._kubernetes.get(label, {})
        patch = _json_size(self._patch(name, task, component, container, kubernetes))
        driver = _json_size(_json(component), _json(task), _json(container), _json(kubernetes))
        yield from self._instance(name, driver + patch)
        yield from self._instance(name, patch)
        yield from self._instance(name, patch)

    def _instance(self, task: str, size: int) -> Iterator[tuple[str, int]]:
        """Yields the nodes of a template's instance, each with `size` bytes of inputs and outputs."""
        for _ in range(_TRIES):
            yield task, _NODE + size

    def _patch(
        self,
        name: str,
        task: dict[str, Any],
        component: dict[str, Any],
        container: dict[str, Any],
        kubernetes: dict[str, Any],
    ) -> str:
        """Returns the driver's patch of the pod: its command, environment and resources."""
        executor_input = self._executor_input(name, task, component)
        command = [
            "/kfp-launcher/launch",
            "--executor_input",
            _json(executor_input),
            "--component_spec",
            _json(component),
        ]
        environment = [
            {
                "name": key["envVar"],
                "valueFrom": {"secretKeyRef": {"name": secret["secretName"], "key": key["secretKey"]}},
            }
            for secret in kubernetes.get("secretAsEnv", [])
            for key in secret["keyToEnv"]
        ]
        main = {
            "name": "main",
            "image": container["image"],
            "command": [*command, *_SERVER],
            "args": [*container["command"], *container["args"]],
            "env": environment,
            "resources": _resources(container, executor_input["inputs"]["parameterValues"]),
        }
        return _escaped(_json({"containers": [main]}))

    def _executor_input(self, name: str, task: dict[str, Any], component: dict[str, Any]) -> dict[str, Any]:
        inputs, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
        given = task.get("inputs", {}).get("parameters", {})
        # A task also has inputs that its component lacks: its resources are read from them.
        values = {
            name: spec.get("defaultValue", "") for name, spec in inputs.get("parameters", {}).items()
        } | {name: self._value(value) for name, value in given.items()}
        return {
            "inputs": {
                "parameterValues": values,
                "artifacts": {each: self._artifact(name, each) for each in inputs.get("artifacts", {})},
            },
            "outputs": {
                "parameters": {
                    each: {"outputFile": f"{_OUTPUTS}/{each}"} for each in outputs.get("parameters", {})
                },
                "artifacts": {
                    each: self._artifact(name, each)
                    for each in [*outputs.get("artifacts", {}), "executor-logs"]
                },
                "outputFile": self._address(name, "output_metadata.json"),
            },
        }

    def _value(self, given: dict[str, Any]) -> Any:
        """Returns the value of a task's input; for an output of an earlier step, a string of the assumed length."""
        if "runtimeValue" in given:
            return given["runtimeValue"]["constant"]
        if "componentInputParameter" in given:
            name = given["componentInputParameter"].removeprefix("pipelinechannel--")
            return self._values.get(name, _OUTPUT * "x")
        produced = given["taskOutputParameter"]
        kinds = self._components[self._component_of(produced["producerTask"])]["outputDefinitions"][
            "parameters"
        ]
        is_struct = kinds[produced["outputParameterKey"]]["parameterType"] == "STRUCT"
        return {} if is_struct else _OUTPUT * "x"

    def _component_of(self, task: str) -> str:
        dags = [
            self._spec["root"]["dag"],
            *(each["dag"] for each in self._components.values() if "dag" in each),
        ]
        return next(str(dag["tasks"][task]["componentRef"]["name"]) for dag in dags if task in dag["tasks"])

    def _artifact(self, task: str, name: str) -> dict[str, Any]:
        kind = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
        artifact = {"name": name, "uri": self._address(task, name), "type": kind}
        return {"artifacts": [artifact]}

    def _address(self, task: str, output: str) -> str:
        return _STORE.format(pipeline=self._spec["pipelineInfo"]["name"], task=task, output=output)


def _resources(container: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns the pod's resources, as Kubernetes takes them."""
    resources = container.get("resources", {})
    given = {
        kind: {
            name: _filled_in(resources.get(f"resource{name.title()}{kind.title()}", ""), values)
            for name in ("cpu", "memory")
        }
        for kind in ("limit", "request")
    }
    gpu = resources.get("accelerator", {})
    given["limit"][gpu.get("resourceType", "")] = _filled_in(gpu.get("resourceCount", ""), values)
    return {f"{kind}s": {name: each for name, each in of.items() if each} for kind, of in given.items()}


def _filled_in(text: str, values: dict[str, Any]) -> str:
    """Returns the text, or the value of the input that it names."""
    named = re.fullmatch(r"{{\$\.inputs\.parameters\['(.+)'\]}}", text)
    return str(values[named[1]]) if named else text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _escaped(text: str) -> str:
    """Escapes a string as Go's encoding/json does, and protobuf's JSON encoder does not."""
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _json_size(*texts: str) -> int:
    """Returns the bytes of strings in the JSON of a node's inputs and outputs."""
    return sum(len(_escaped(_json(text)).encode()) + len('{"name":"component","value":},') for text in texts)
