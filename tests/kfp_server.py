"""A small HTTP server that answers as the API server of Kubeflow Pipelines 2.17.0 does.

Behind each behaviour stands where it is from: issue 18 (section 2) and section 3 of the design tell of a real cluster;
a file's name is one of kubeflow/pipelines 2.17.0, below backend/src/apiserver.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.argo_workflow import RUN_ID, Moment, workflow
from tests.http_server import JsonHandler, LocalServer
from tests.kfp_runs import KfpRuns

API = "/apis/v2beta1"
# model/run.go, ToV2: what is none of these, Omitted say, has no state. (Error is FAILED.)
_STATES = {
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Skipped": "SKIPPED",
    "Failed": "FAILED",
    "Error": "FAILED",
}
INDEX = "<!doctype html><html><body>Kubeflow Pipelines</body></html>"
FAILED_LOG = """[KFP Executor 2026-01-01 00:00:00,000 INFO]: Looking for component `preflight`
miniml: looking at the sources
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/home/miniml/app.py", line 1, in preflight
    check()
miniml.errors.InputError: column 'label' not in train.csv; it has: text, target.
Set label_column.
I0101 00:00:05.000000      15 launcher_v2.go:193] publish success.
F0101 00:00:05.000000      15 main.go:57] failed to execute component: exit status 1
time="2026-01-01T00:00:06.000Z" level=info msg="sub-process exited" argo=true error="<nil>"
Error: exit status 1
"""
"""What a step of ours prints that fails, with what Python, KFP's launcher and Argo print around it."""
_NEVER = "0001-01-01T00:00:00Z"


@dataclass
class KfpServer(KfpRuns, LocalServer):
    """What was uploaded and started, and how the next run goes."""

    looks: list[dict[str, str] | Moment] = field(default_factory=list)
    """For each look at the run how far it is, or its stages only; the last one stays. See `Moment`."""
    end: str = "SUCCEEDED"
    """The run's state at the last look."""
    lags: int = 0
    """For so many looks after the end the tasks are still told as they were: the server writes the run first (issue 18;
    resource/resource_manager.go, ReportWorkflowResource, before CreateOrUpdateTasks)."""
    frozen_at: int | None = None
    """From that look on Argo compresses the workflow's nodes, and the tasks stand still (issue 18; NodeStatuses in
    ../common/util/workflow.go finds none)."""
    offloaded: bool = False
    """Whether Argo keeps the nodes in a database of its own, and not in the workflow."""
    refused_workflow: str = ""
    """Why Argo does not even begin, if so."""
    has_version_1: bool = True
    """Whether the API's first version answers, by which the workflow is told (server/api_converter.go,
    toApiRunDetailV1)."""
    history: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING"])
    """The states that the run has had."""
    arguments: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    """What pods have printed, by their names."""
    token: str = ""
    """If set, requests without it get 401."""
    refuse_looks: int = 0
    """If set, looks at a run are answered with this status."""
    drops: int = 0
    """So many looks at a run have their connection cut."""
    pipelines: dict[str, str] = field(default_factory=dict)
    versions: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    looked: threading.Event = field(default_factory=threading.Event)
    """Set once a run has been looked at."""
    _looks: int = 0
    _moment: Moment = field(default_factory=Moment)
    _told: Moment = field(default_factory=Moment)

    def handler(self) -> type[JsonHandler]:
        return _handler(self)

    def add_version(self, pipeline_id: str, name: str) -> dict[str, Any]:
        version = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": f"version-{len(self.versions)}",
            "display_name": name,
        }
        self.versions.append(version)
        return version

    def look(self) -> dict[str, Any]:
        """The run (server/api_converter.go, toApiRun)."""
        over = len(self.looks) <= 1
        if not over:
            self._moment = _moment(self.looks.pop(0))
        elif self.looks:
            self._moment = _moment(self.looks[0])
        state = self.end if over else "CANCELING" if self._moment.terminated else "RUNNING"
        if over and self._moment.phase == "Running" and state in ("SUCCEEDED", "FAILED"):
            self._moment = replace(self._moment, phase=state.capitalize())
        frozen = self.frozen_at is not None and self._looks >= self.frozen_at
        self._looks += 1
        if not frozen and not (over and self.lags > 0):
            self._told = self._moment
        if over:
            self.lags -= 1
        return {
            "run_id": RUN_ID,
            "state": state,
            "state_history": [{"state": name} for name in [*self.history, state]],
            "pipeline_version_reference": {"pipeline_id": "pipeline-0", "pipeline_version_id": "version-0"},
            "runtime_config": {
                "parameters": self.arguments
                or (self.runs or [{}])[-1].get("runtime_config", {}).get("parameters", {})
            },
            "run_details": {"task_details": _tasks(self._told)},
        }

    def workflow_now(self) -> dict[str, Any]:
        """The workflow as the server last wrote it, together with the run's state."""
        if self.refused_workflow:
            return {"status": {"phase": "Error", "message": self.refused_workflow}}
        if self.offloaded:
            return {"status": {"phase": self._moment.phase, "offloadNodeStatusVersion": "fnv:1"}}
        return workflow(self._moment, compressed=self.frozen_at is not None and self._looks > self.frozen_at)


def _moment(look: dict[str, str] | Moment) -> Moment:
    return look if isinstance(look, Moment) else Moment(look)


def _tasks(moment: Moment) -> list[dict[str, Any]]:
    """The run's task_details: one for each node of the workflow, and no more than this of each.

    No task has the name of its pod; a child is named by its node's id, in `pod_name` (server/api_converter.go,
    toModelTask and toApiPipelineTaskDetail). The order is the database's, by ids that tell nothing (storage/
    run_store.go). Each launcher makes one more entry, for the cache, without a name and a state
    (resource/resource_manager.go, CreateTask).
    """
    tasks = []
    for node in workflow(moment)["status"]["nodes"].values():
        task = {
            "run_id": RUN_ID,
            "task_id": str(uuid.uuid5(uuid.NAMESPACE_URL, node["id"])),
            "display_name": node["displayName"],
            "create_time": "2026-01-01T00:00:00Z",
            "start_time": node["startedAt"],
            "end_time": node["finishedAt"] or _NEVER,
            "child_tasks": [{"pod_name": child} for child in node.get("children", [])],
        }
        if state := _STATES.get(node["phase"]):
            task["state"] = state
        tasks.append(task)
        if node["templateName"] == "system-container-impl" and state == "SUCCEEDED":
            nameless = {"task_id": str(uuid.uuid5(uuid.NAMESPACE_DNS, node["id"])), "execution_id": "7"}
            tasks.append({"run_id": RUN_ID, "create_time": node["startedAt"], "end_time": _NEVER, **nameless})
    return sorted(tasks, key=lambda task: str(task["task_id"]))


def _handler(server: KfpServer) -> type[JsonHandler]:
    class Handler(JsonHandler):
        def answer(self, method: str) -> None:
            body = self.read_body()
            if answered := server.about_runs(method, self.path, body):
                self.send_answer(*answered)
            elif method == "POST":
                self._post(body)
            else:
                self._get()

        def _get(self) -> None:
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                return self.send_answer(401, {"error": "no"})
            path = urlsplit(self.path).path
            if path == f"{API}/healthz":
                return self.send_answer(200, server.health())
            if path == f"{API}/pipelines":
                found = [{"pipeline_id": i, "display_name": name} for name, i in server.pipelines.items()]
                return self.send_answer(200, {"pipelines": found, "total_size": len(found)})
            if path.endswith("/versions"):
                return self.send_answer(200, {"pipeline_versions": server.versions})
            if path == f"{API}/experiments":
                return self.send_answer(200, {"experiments": server.experiments})
            if path == f"{API}/pipelines/pipeline-0":
                return self.send_answer(
                    200, {"pipeline_id": "pipeline-0", "display_name": "text-classification"}
                )
            if path == f"/apis/v1beta1/runs/{RUN_ID}" and server.has_version_1:
                manifest = json.dumps(server.workflow_now())
                return self.send_answer(200, {"pipeline_runtime": {"workflow_manifest": manifest}})
            if log := re.fullmatch(rf"/apis/v1alpha1/runs/{RUN_ID}/nodes/([\w-]+)/log", path):
                return self.send_answer(200, INDEX if server.is_ui else self._log(log[1]))
            if path == "/k8s/pod/logs" and server.is_ui:
                return self.send_answer(200, self._log(parse_qs(urlsplit(self.path).query)["podname"][0]))
            if path == f"{API}/runs/{RUN_ID}":
                server.looked.set()
                if server.refuse_looks:
                    return self.send_answer(server.refuse_looks, {"message": "token expired", "code": 16})
                if server.drops:
                    server.drops -= 1
                    self.cut()
                    return None
                return self.send_answer(200, server.look())
            return self.send_answer(404, {"message": f"{path} not found", "code": 5})

        def _log(self, pod: str) -> str:
            """200 whatever happens, an error as JSON in the place of the log (server/run_log_server.go)."""
            refused = {"error_message": f"Failed to read logs for run {RUN_ID}: {pod} not found"}
            return server.logs.get(pod) or json.dumps(refused, separators=(",", ":"))

        def _post(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == f"{API}/pipelines/upload":
                server.uploads.append(body)
                server.pipelines[query["name"]] = "pipeline-0"
                return self.send_answer(200, {"pipeline_id": "pipeline-0", "display_name": query["name"]})
            if parts.path == f"{API}/pipelines/upload_version":
                server.uploads.append(body)
                made = server.add_version(query["pipelineid"], query["name"])
                made["description"] = query.get("description", "")
                return self.send_answer(200, made)
            given = json.loads(body)
            if parts.path == f"{API}/experiments":
                server.experiments.append({"experiment_id": "experiment-0", **given})
                return self.send_answer(200, server.experiments[-1])
            if parts.path == f"{API}/runs":
                server.runs.append(given)
                return self.send_answer(200, {"run_id": "run-0", **given})
            return self.send_answer(404, {"message": f"{parts.path} not found", "code": 5})

    return Handler
