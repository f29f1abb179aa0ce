"""A small HTTP server that answers as the Kubernetes API does, with a controller that does as it is told.

It keeps InferenceServices, applies them server-side (generation, conflict), and at each look at one takes
the next step of the fate that the test chose for its model. The predictor of what serves answers too.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from miniml.inference_service import REVISION
from tests.http_server import JsonHandler, LocalServer

_SERVICE = re.compile(r"/apis/serving\.kserve\.io/v1beta1/namespaces/([\w-]+)/inferenceservices/([\w-]+)")
_PODS = re.compile(r"/api/v1/namespaces/([\w-]+)/pods")
_LOG = re.compile(r"/api/v1/namespaces/[\w-]+/pods/([\w-]+)/log")
_EVENTS = re.compile(r"/api/v1/namespaces/([\w-]+)/events")
_PROXY = re.compile(r"/api/v1/namespaces/[\w-]+/services/http:[\w-]+:80/proxy")

Fate = Callable[["KubernetesServer", dict[str, Any]], Iterator[None]]
Answer = Callable[[str], dict[str, float]]


@dataclass
class KubernetesServer(LocalServer):
    """One cluster with one namespace that matters."""

    answer: Answer
    """What every predictor answers to a text."""
    fates: dict[str, Fate] = field(default_factory=dict)
    """By storageUri, what becomes of an InferenceService; `becomes_ready` where nothing is said."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """By storageUri, what that model answers instead."""
    objects: dict[str, Any] = field(default_factory=dict)
    """What a GET of a path finds, beside InferenceServices."""
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""
    managers: dict[str, str] = field(default_factory=dict)
    """By service, somebody else who manages its replicas."""
    denied: set[str] = field(default_factory=set)
    """`verb resource` that access reviews say no to, and that calls are refused for."""
    hidden: set[str] = field(default_factory=set)
    """Paths that may not be looked at."""
    user: str = "system:serviceaccount:kubeflow:miniml-pipeline"
    """Whom this takes the asker for."""
    drops: int = 0
    """So many of the next requests have their connection cut without an answer."""
    fails: list[int] = field(default_factory=list)
    """Statuses that the next requests get instead of an answer."""
    requests: list[str] = field(default_factory=list)
    resolvable: bool = True
    """Whether the address in a service's status means anything where the asker stands."""
    _steps: dict[str, Iterator[None]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def handler(self) -> type[JsonHandler]:
        return _handler(self)

    def write_kubeconfig(self, path: Path) -> Path:
        cluster = {"name": "c", "cluster": {"server": self.url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "t0ken"}}
        path.write_text(
            yaml.safe_dump(
                {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"}
            )
        )
        return path

    def apply(self, name: str, given: dict[str, Any], force: bool) -> tuple[int, dict[str, Any]]:
        before = self.services.get(name)
        if name in self.managers and not force:
            return 409, failure(
                409,
                f'Apply failed with 1 conflict: conflict with "{self.managers[name]}": .spec.predictor.maxReplicas',
            )
        changed = before is None or before["spec"] != given["spec"]
        generation = 1 if before is None else before["metadata"]["generation"] + changed
        status = before["status"] if before else {}
        service = {**given, "metadata": {**given["metadata"], "generation": generation}, "status": status}
        self.services[name] = service
        fate = self.fates.get(service["spec"]["predictor"]["model"]["storageUri"], becomes_ready)
        self._steps[name] = fate(self, service)
        return 200 if before else 201, service

    def look(self, name: str) -> dict[str, Any] | None:
        """The service, after one more step of its fate."""
        if steps := self._steps.get(name):
            next(steps, None)
        return self.services.get(name)

    def set_status(
        self, service: dict[str, Any], *, ready: bool, observed: int | None = None, reason: str = ""
    ) -> None:
        name = service["metadata"]["name"]
        # As a real one, the server's own object, whatever the fate still holds in its hands.
        self.services[name]["status"] = {
            "observedGeneration": service["metadata"]["generation"] if observed is None else observed,
            "url": f"http://{name}.models.example",
            "address": {
                "url": self.url if self.resolvable else f"http://{name}-predictor.models.svc.invalid"
            },
            "conditions": [
                {"type": "Ready", "status": "True" if ready else "False", "reason": reason, "message": reason}
            ],
        }

    def route(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, Any] | None:
        """Answers what a server of more than InferenceServices knows of; None leaves it to the rest."""
        return None

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        ready = [pod for pod in self.pods if pod["status"]["conditions"][0]["status"] == "True"]
        answer = self.answers.get(ready[-1]["model"], self.answer)
        return [{"label": "", "score": 0.0, "probabilities": answer(text)} for text in texts]


def pod(service: dict[str, Any], number: int = 0, *, ready: bool = True) -> dict[str, Any]:
    """A pod of a service's revision."""
    revision = service["metadata"]["annotations"].get(REVISION, "none")
    return {
        "metadata": {
            "name": f"{service['metadata']['name']}-predictor-{revision[:6]}-{number}",
            "annotations": service["metadata"]["annotations"],
        },
        "model": service["spec"]["predictor"]["model"]["storageUri"],
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def waiting(reason: str, message: str = "", restarts: int = 0) -> list[dict[str, Any]]:
    """The state of a container that waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return [{"name": "kserve-container", "ready": False, "restartCount": restarts, "state": state}]


def becomes_ready(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
    """A rolling update: the new pod starts, becomes ready, the old ones go."""
    old = list(server.pods)
    new = [pod(service, n) for n in range(service["spec"]["predictor"]["minReplicas"])]
    starting = [pod(service, n, ready=False) for n in range(len(new))]
    server.pods = old + starting
    server.set_status(service, ready=bool(old), observed=service["metadata"]["generation"] - 1)
    yield
    server.pods = old + new
    server.set_status(service, ready=True)
    yield
    server.pods = new
    yield


def stays_as_it_is(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
    """Ready stays true, for the old pods serve on; the controller says that it has looked."""
    server.pods = [*server.pods, pod(service, ready=False)]
    while True:
        server.set_status(service, ready=True)
        yield


def fails_with(reason: str, message: str = "", *, init: bool = False, restarts: int = 0) -> Fate:
    """The old pods serve on, the new one's container waits for that reason."""

    def fate(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        containers = waiting(reason, message, restarts)
        if init:
            containers[0]["name"] = "storage-initializer"
        stuck = pod(service, ready=False)
        stuck["status"]["initContainerStatuses" if init else "containerStatuses"] = containers
        server.set_status(service, ready=bool(server.pods), reason="MinimumReplicasUnavailable")
        server.pods = [*server.pods, stuck]
        yield

    return fate


def failure(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


def _handler(server: KubernetesServer) -> type[JsonHandler]:
    class Handler(JsonHandler):
        def answer(self, method: str) -> None:
            body = self.read_body()
            with server._lock:
                server.requests.append(f"{method} {self.path}")
                if server.drops:
                    server.drops -= 1
                    self.cut()
                    return
                if server.fails:
                    code = server.fails.pop(0)
                    self.send_answer(code, failure(code, "etcdserver: request timed out"))
                    return
                code, answered = self._route(method, json.loads(body) if body else {})
            self.send_answer(
                code, answered
            )  # Outside of the lock, for a log comes as long as its container runs.

        def _route(self, method: str, body: dict[str, Any]) -> tuple[int, Any]:
            parts = urlsplit(self.path)
            path, query = parts.path, parse_qs(parts.query)
            if path.startswith("/v1/models/") or _PROXY.match(path):
                return 200, {"predictions": server.predict(body["instances"])}
            if self.headers.get("Authorization") != "Bearer t0ken":
                return 401, failure(401, "Unauthorized")
            if other := server.route(method, path, {name: last for name, (*_, last) in query.items()}, body):
                return other
            if found := _SERVICE.fullmatch(path):
                return self._service(method, found[2], body, query)
            if _PODS.fullmatch(path):
                return 200, {"items": server.pods}
            if found := _LOG.fullmatch(path):
                return 200, f"{found[1]} previous={query['previous'][0]}\n{server.log}"
            if _EVENTS.fullmatch(path):
                return 200, {"items": server.events}
            if path.endswith("selfsubjectaccessreviews"):
                asked = body["spec"]["resourceAttributes"]
                return 201, {
                    "status": {"allowed": f"{asked['verb']} {asked['resource']}" not in server.denied}
                }
            if path.endswith("selfsubjectreviews"):  # authentication.k8s.io/v1, of Kubernetes 1.28 and later
                return 201, {"status": {"userInfo": {"username": server.user}}}
            if path in server.hidden:
                return 403, failure(
                    403, f"{path} is forbidden to system:serviceaccount:kubeflow:miniml-pipeline"
                )
            if path in server.objects:
                return 200, server.objects[path]
            return 404, failure(404, f"{path} not found")

        def _service(
            self, method: str, name: str, body: dict[str, Any], query: dict[str, list[str]]
        ) -> tuple[int, Any]:
            verb = {"GET": "get", "PATCH": "patch", "DELETE": "delete"}[method]
            if f"{verb} inferenceservices" in server.denied:
                return 403, failure(
                    403,
                    f'inferenceservices.serving.kserve.io "{name}" is forbidden: User '
                    f'"system:serviceaccount:kubeflow:pipeline-runner" cannot {verb} resource "inferenceservices"',
                )
            if method == "PATCH":
                assert self.headers["Content-Type"] == "application/apply-patch+yaml"
                assert query["fieldManager"] == ["miniml"]
                return server.apply(name, body, query["force"] == ["true"])
            if method == "DELETE":
                return (
                    (200, failure(200, "")) if server.services.pop(name, None) else (404, failure(404, name))
                )
            service = server.look(name)
            return (200, service) if service else (404, failure(404, f'inferenceservices "{name}" not found'))

    return Handler
