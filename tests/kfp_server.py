"""A small HTTP server that answers as the API server of Kubeflow Pipelines 2.17 does (v2beta1)."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"


@dataclass
class KfpServer:
    """What was uploaded and started, and how the next run goes."""

    looks: list[dict[str, str]] = field(default_factory=list)
    """For each look at the run, the states of its tasks; the last one stays. CACHED and OMITTED are told as the
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
    schedules: list[dict[str, Any]] = field(default_factory=list)
    looked: threading.Event = field(default_factory=threading.Event)
    """Set once a run has been looked at."""

    def __enter__(self) -> KfpServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

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
        tasks = [
            task for number, (name, state) in enumerate(every.items()) for task in _nodes(name, state, number)
        ]
        state = self.end if over else "RUNNING"
        return {"run_id": run_id, "state": state, "run_details": {"task_details": tasks}}


def _nodes(name: str, state: str, number: int) -> list[dict[str, Any]]:
    """A task and its container, as the server makes them of Argo's nodes."""
    ended = state not in ("RUNNING", "PENDING", "OMITTED")
    task = {
        "display_name": name,
        "state": {"CACHED": "SUCCEEDED", "OMITTED": "RUNTIME_STATE_UNSPECIFIED"}.get(state, state),
        "start_time": "2026-01-01T00:00:00Z",
        "end_time": "2026-01-01T00:01:05Z" if ended else "0001-01-01T00:00:00Z",
        "pod_name": f"run-system-container-executor-{number}0",
        "child_tasks": [{"pod_name": f"run-{number}1"}],
    }
    container = {
        "display_name": "executor",
        "state": "SKIPPED" if state == "CACHED" else task["state"],
        "pod_name": f"run-system-container-impl-{number}1",
    }
    return [task, container]


def _handler(server: KfpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._read()
            if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
                return self._send({"error": "no"}, 401)
            path = urlsplit(self.path).path
            if path == f"{API}/healthz":
                return self._send({"multi_user": False})
            if path == f"{API}/pipelines":
                found = [{"pipeline_id": i, "display_name": name} for name, i in server.pipelines.items()]
                return self._send({"pipelines": found, "total_size": len(found)})
            if path.endswith("/versions"):
                return self._send({"pipeline_versions": server.versions})
            if path == f"{API}/experiments":
                return self._send({"experiments": server.experiments})
            if run := re.fullmatch(rf"{API}/runs/([\w-]+)", path):
                server.looked.set()
                if server.refuse_looks:
                    return self._send({"message": "token expired", "code": 16}, server.refuse_looks)
                if server.drops:
                    server.drops -= 1
                    self.close_connection = True
                    return None
                return self._send(server.look(run[1]))
            return self._send({"message": f"{path} not found", "code": 5}, 404)

        def do_POST(self) -> None:
            body = self._read()
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == f"{API}/pipelines/upload":
                server.uploads.append(body)
                server.pipelines[query["name"]] = "pipeline-0"
                return self._send({"pipeline_id": "pipeline-0", "display_name": query["name"]})
            if parts.path == f"{API}/pipelines/upload_version":
                server.uploads.append(body)
                return self._send(server.add_version(query["pipelineid"], query["name"]))
            given = json.loads(body)
            if parts.path == f"{API}/experiments":
                server.experiments.append({"experiment_id": "experiment-0", **given})
                return self._send(server.experiments[-1])
            if parts.path == f"{API}/runs":
                server.runs.append(given)
                return self._send({"run_id": "run-0", **given})
            if parts.path == f"{API}/recurringruns":
                server.schedules.append(given)
                return self._send({"recurring_run_id": "schedule-0", **given})
            return self._send({"message": f"{parts.path} not found", "code": 5}, 404)

        def _read(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _send(self, answer: Any, code: int = 200) -> None:
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler
