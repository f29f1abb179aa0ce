"""A small HTTP server that answers as the API server of Kubeflow Pipelines 2.17 does (v2beta1)."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.http_server import JsonHandler, LocalServer
from tests.kfp_runs import KfpRuns

API = "/apis/v2beta1"


@dataclass
class KfpServer(KfpRuns, LocalServer):
    """What was uploaded and started, and how the next run goes."""

    looks: list[dict[str, str]] = field(default_factory=list)
    """For each look at the run, the states of its tasks; the last one stays. A loop's tasks of one name are told apart
    by what follows a "/": train/1. CACHED and OMITTED are told as the
    server tells them: by a skipped container, and by no state. It never tells a task's error."""
    end: str = "SUCCEEDED"
    """The run's state at the last look."""
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

    def look(self, run_id: str) -> dict[str, Any]:
        over = len(self.looks) <= 1
        states = self.looks.pop(0) if len(self.looks) > 1 else (self.looks or [{}])[0]
        # The server lists its own tasks among ours.
        every = {"root": "RUNNING", "root-driver": "SUCCEEDED", **states}
        tasks = [task for name, state in every.items() for task in _nodes(name, state)]
        state = self.end if over else "RUNNING"
        return {"run_id": run_id, "state": state, "run_details": {"task_details": tasks}}


def _nodes(name: str, state: str) -> list[dict[str, Any]]:
    """A task and its container, as the server makes them of Argo's nodes."""
    node = re.sub(r"\W", "", name)
    ended = state not in ("RUNNING", "PENDING", "OMITTED")
    task = {
        "display_name": name.partition("/")[0],
        "state": {"CACHED": "SUCCEEDED", "OMITTED": "RUNTIME_STATE_UNSPECIFIED"}.get(state, state),
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:01:05Z" if ended else "0001-01-01T00:00:00Z",
        "pod_name": f"run-system-container-executor-{node}0",
        "child_tasks": [{"pod_name": f"run-{node}1"}],
    }
    container = {
        "display_name": "executor",
        "state": "SKIPPED" if state == "CACHED" else task["state"],
        "pod_name": f"run-system-container-impl-{node}1",
    }
    return [task, container]


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
            if run := re.fullmatch(rf"{API}/runs/([\w-]+)", path):
                server.looked.set()
                if server.refuse_looks:
                    return self.send_answer(server.refuse_looks, {"message": "token expired", "code": 16})
                if server.drops:
                    server.drops -= 1
                    self.cut()
                    return None
                return self.send_answer(200, server.look(run[1]))
            return self.send_answer(404, {"message": f"{path} not found", "code": 5})

        def _post(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == f"{API}/pipelines/upload":
                server.uploads.append(body)
                server.pipelines[query["name"]] = "pipeline-0"
                return self.send_answer(200, {"pipeline_id": "pipeline-0", "display_name": query["name"]})
            if parts.path == f"{API}/pipelines/upload_version":
                server.uploads.append(body)
                return self.send_answer(200, server.add_version(query["pipelineid"], query["name"]))
            given = json.loads(body)
            if parts.path == f"{API}/experiments":
                server.experiments.append({"experiment_id": "experiment-0", **given})
                return self.send_answer(200, server.experiments[-1])
            if parts.path == f"{API}/runs":
                server.runs.append(given)
                return self.send_answer(200, {"run_id": "run-0", **given})
            return self.send_answer(404, {"message": f"{parts.path} not found", "code": 5})

    return Handler
