"""Where the artifacts of a run lie, though another run wrote them: what comes from KFP's cache stays where it is.

No endpoint of KFP's API 2.17 tells a run's artifacts (`outputs` of its tasks are never filled: toModelTask in
backend/src/apiserver/server/api_converter.go). But a step's driver writes the addresses of all that the step reads and
writes into the patch of its pod (initPodSpecPatch in backend/src/v2/driver/driver.go), which the workflow keeps. And a
step that reads what came from the cache reads it where it lies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from miniml.kubeflow.workflow import raw_nodes

_PATCH = "pod-spec-patch"
_EXECUTOR_INPUT = "--executor_input"


def folders_of(workflow: dict[str, Any], stage: str) -> set[str]:
    """The addresses of the folders in which what a stage wrote lies, as far as a step of the run read or wrote there.

    One for each turn of a stage in a loop. The outputs lie in them by their names: an address is
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
        words = container.get("command") or []
        if _EXECUTOR_INPUT not in words[:-1]:
            continue
        given = json.loads(words[words.index(_EXECUTOR_INPUT) + 1])
        for side in ("inputs", "outputs"):
            for listed in ((given.get(side) or {}).get("artifacts") or {}).values():
                yield from (
                    artifact["uri"] for artifact in listed.get("artifacts") or [] if artifact.get("uri")
                )
