"""Finds where a run's artifacts are stored, even those that another run wrote and KFP's cache returned.

No endpoint of KFP's API 2.17 lists a run's artifacts (`outputs` of its tasks are never filled: toModelTask in
backend/src/apiserver/server/api_converter.go). But a step's driver writes the addresses of the step's inputs and
outputs into the patch of its pod (initPodSpecPatch in backend/src/v2/driver/driver.go), which the workflow keeps, those
of cached inputs included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from miniml.kubeflow.workflow import raw_nodes

_PATCH = "pod-spec-patch"
_EXECUTOR_INPUT = "--executor_input"


def folders_of(workflow: dict[str, Any], stage: str) -> set[str]:
    """Returns the addresses of the folders of a stage's outputs, as far as a step of the run read or wrote there.

    There is one for each turn of a stage in a loop. An output's address is
    <root>/<pipeline>/<run>/<stage>/<uuid>/<output> (provisionOutputs in backend/src/v2/driver/driver.go).
    """
    return {
        folder
        for uri in _addresses(workflow)
        if (folder := uri.rpartition("/")[0]).split("/")[-2:-1] == [stage]
    }


def _addresses(workflow: dict[str, Any]) -> Iterator[str]:
    for node in raw_nodes(workflow):
        for parameter in (node.get("outputs") or {}).get("parameters") or []:
            if parameter.get("name") == _PATCH and parameter.get("value"):
                yield from _in_patch(json.loads(parameter["value"]))


def _in_patch(patch: dict[str, Any]) -> Iterator[str]:
    for container in patch.get("containers") or []:
        command = container.get("command") or []
        if _EXECUTOR_INPUT not in command[:-1]:
            continue
        executor_input = json.loads(command[command.index(_EXECUTOR_INPUT) + 1])
        for side in ("inputs", "outputs"):
            for listed in ((executor_input.get(side) or {}).get("artifacts") or {}).values():
                yield from (
                    artifact["uri"] for artifact in listed.get("artifacts") or [] if artifact.get("uri")
                )
