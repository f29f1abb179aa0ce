"""A small HTTP server that answers as the Kubernetes API does, with a controller that does as it is told.

It keeps InferenceServices, applies them server-side (generation, conflict), and at each look at one takes
the next step of the fate that the test chose for its model. The predictor of what serves answers too.

What the status says is as KServe 0.21 writes it in Standard mode, in pkg/apis/serving/v1beta1/
inference_service_status.go (the functions are named below), and as it was seen on a real cluster (issue 18, section 3).
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from miniml.cluster.inference_service import REVISION
from miniml.resource_names import NAMESPACE, PIPELINE_ACCOUNT
from tests.http_server import JsonHandler, LocalServer

_SERVICE = re.compile(r"/apis/serving\.kserve\.io/v1beta1/namespaces/([\w-]+)/inferenceservices/([\w-]+)")
_PODS = re.compile(r"/api/v1/namespaces/([\w-]+)/pods")
_LOG = re.compile(r"/api/v1/namespaces/[\w-]+/pods/([\w-]+)/log")
_EVENTS = re.compile(r"/api/v1/namespaces/([\w-]+)/events")
_PROXY = re.compile(r"/api/v1/namespaces/[\w-]+/services/http:[\w-]+:80/proxy")
_BUDGET = re.compile(r"/apis/policy/v1/namespaces/[\w-]+/poddisruptionbudgets/([\w-]+)")

WEBHOOK_AWAY = (
    'Internal error occurred: failed calling webhook "inferenceservice.kserve-webhook-server.defaulter": failed to '
    'call webhook: Post "https://kserve-webhook-server-service.kserve.svc:443/mutate-inferenceservices?timeout=10s": '
    "dial tcp 10.96.86.3:443: connect: connection refused"
)
"""What the API server answers, as a 500, while the one pod of KServe's controller is being replaced (issue 18)."""

APPLIED_AT = "2026-11-27T12:00:00Z"

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
    budgets: dict[str, dict[str, Any]] = field(default_factory=dict)
    """PodDisruptionBudgets."""
    pods: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""
    managers: dict[str, str] = field(default_factory=dict)
    """By service, somebody else who manages its replicas."""
    denied: set[str] = field(default_factory=set)
    """`verb resource` that access reviews say no to, and that calls are refused for."""
    hidden: set[str] = field(default_factory=set)
    """Paths that may not be looked at."""
    user: str = f"system:serviceaccount:{NAMESPACE}:{PIPELINE_ACCOUNT}"
    """Whom this takes the asker for."""
    drops: int = 0
    """So many of the next requests have their connection cut without an answer."""
    fails: list[int] = field(default_factory=list)
    """Statuses that the next requests get instead of an answer."""
    admission: list[tuple[int, str]] = field(default_factory=list)
    """Status and message that the next InferenceServices to be applied are turned away with."""
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
        metadata = {
            **given["metadata"],
            "uid": before["metadata"]["uid"] if before else str(uuid.uuid4()),
            "generation": before["metadata"]["generation"] + changed if before else 1,
            "managedFields": [{"manager": "miniml", "operation": "Apply", "time": APPLIED_AT}],
        }
        service = {**given, "metadata": metadata, "status": before["status"] if before else {}}
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
        self, service: dict[str, Any], *, ready: bool, reason: str = "", message: str = ""
    ) -> None:
        """Writes down how the Deployment is doing, and what `self.pods` tell of the model."""
        name = service["metadata"]["name"]
        because = {} if ready else {"reason": reason, "message": message}
        predictor = {"status": str(ready), **because}
        # As a real one, the server's own object, whatever the fate still holds in its hands.
        self.services[name]["status"] = {
            # PropagateRawStatus: the Deployment's. That of one that was made anew is 1 (seen: 1 at generation 2).
            "observedGeneration": 1,
            "url": f"http://{name}.models.example",
            "address": {
                "url": self.url if self.resolvable else f"http://{name}-predictor.models.svc.invalid"
            },
            # Ready stands for the others and takes over what the first of them says that is not true. Stopped is false
            # of whatever is to run (controller.go, Reconcile).
            "conditions": [
                {"type": "IngressReady", "status": "True"},
                {"type": "PredictorReady", **predictor},
                {"type": "Ready", **predictor},
                {"type": "Stopped", "status": "False"},
            ],
            "modelStatus": self._model_status(name, ready),
        }

    def refuse_spec(self, service: dict[str, Any], reason: str, message: str) -> None:
        """Says that the spec is wrong: the Deployment, and Ready with it, stay as they were.

        components/predictor.go, reconcileModel, which returns before it comes to the Deployment.
        """
        status = self.services[service["metadata"]["name"]]["status"]
        status["modelStatus"] = {
            "transitionStatus": "InvalidSpec",
            "lastFailureInfo": {"reason": reason, "message": message},
        }

    def _model_status(self, name: str, ready: bool) -> dict[str, Any]:
        """PropagateModelStatus: the first pod of the list speaks for all; lastFailureInfo is set, and never cleared."""
        before = self.services[name]["status"].get("modelStatus", {})
        failure = before.get("lastFailureInfo")
        last_failure = {"lastFailureInfo": failure} if failure else {}
        first = self.pods[0]["status"] if self.pods else {}
        for states, counts in (("initContainerStatuses", True), ("containerStatuses", not ready)):
            for container in first.get(states, []):
                if counts and container["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff":
                    failed = {"reason": "ModelLoadFailed", "message": "", "exitCode": 1}
                    return {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failed}
        return {**last_failure, "transitionStatus": "UpToDate" if ready else "InProgress"}

    def collect_garbage(self, uid: str) -> None:
        """Deletes what that object owned, as Kubernetes' garbage collector does."""
        for name, budget in list(self.budgets.items()):
            if any(owner["uid"] == uid for owner in budget["metadata"].get("ownerReferences", [])):
                del self.budgets[name]

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


def warning(kind: str, name: str, reason: str, message: str, at: str = "") -> dict[str, Any]:
    """An event, as `kubectl get events` shows it; `at` is its last time, by default a minute after APPLIED_AT."""
    return {
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "type": "Warning",
        "lastTimestamp": at or "2026-11-27T12:01:00Z",
    }


def without_metrics(name: str) -> list[dict[str, Any]]:
    """What the autoscaler says of a Deployment without ready pods: it has the Deployment's name (seen: issue 18)."""
    none = "no metrics returned from resource metrics API"
    return [
        warning(
            "HorizontalPodAutoscaler",
            name,
            "FailedGetResourceMetric",
            f"failed to get cpu utilization: unable to get metrics for resource cpu: {none}",
        ),
        warning(
            "HorizontalPodAutoscaler",
            name,
            "FailedComputeMetricsReplicas",
            "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to "
            f"get cpu utilization: unable to get metrics for resource cpu: {none}",
        ),
    ]


def becomes_ready(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
    """A rolling update: the new pod starts, becomes ready, the old ones go."""
    old = list(server.pods)
    new = [pod(service, n) for n in range(service["spec"]["predictor"]["minReplicas"])]
    starting = [pod(service, n, ready=False) for n in range(len(new))]
    server.pods = old + starting
    server.set_status(service, ready=bool(old))
    yield
    server.pods = old + new
    server.set_status(service, ready=True)
    yield
    server.pods = new
    yield


def stays_as_it_is(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
    """Ready stays true and the model "Loaded", for the old pods serve on."""
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
        serving = bool(server.pods)
        server.pods = [*server.pods, stuck]
        server.set_status(service, ready=serving, reason="MinimumReplicasUnavailable")
        yield

    return fate


def failure(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


def _not_allowed(verb: str, resource: str, name: str) -> dict[str, Any]:
    """The API server's refusal (staging/src/k8s.io/apiserver/.../responsewriters/errors.go, forbiddenMessage)."""
    return failure(
        403,
        f'{resource} "{name}" is forbidden: User "system:serviceaccount:kubeflow:pipeline-runner" cannot {verb} '
        f'resource "{resource}" in API group "" in the namespace "models"',
    )


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
            # Outside of the lock, for a log comes as long as its container runs.
            self.send_answer(code, answered)

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
            if found := _BUDGET.fullmatch(path):
                return self._budget(method, found[1], body)
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
                return 403, _not_allowed("get", path.rsplit("/", 2)[1], path.rsplit("/", 1)[1])
            if path in server.objects:
                return 200, server.objects[path]
            return 404, failure(404, f"{path} not found")

        def _service(
            self, method: str, name: str, body: dict[str, Any], query: dict[str, list[str]]
        ) -> tuple[int, Any]:
            verb = {"GET": "get", "PATCH": "patch", "DELETE": "delete"}[method]
            if f"{verb} inferenceservices" in server.denied:
                return 403, _not_allowed(verb, "inferenceservices", name)
            if method == "PATCH":
                if server.admission:
                    code, message = server.admission.pop(0)
                    return code, failure(code, message)
                assert self.headers["Content-Type"] == "application/apply-patch+yaml"
                assert query["fieldManager"] == ["miniml"]
                return server.apply(name, body, query["force"] == ["true"])
            if method == "DELETE":
                deleted = server.services.pop(name, None)
                if deleted is None:
                    return 404, failure(404, name)
                server.collect_garbage(deleted["metadata"]["uid"])
                return 200, failure(200, "")
            service = server.look(name)
            return (200, service) if service else (404, failure(404, f'inferenceservices "{name}" not found'))

        def _budget(self, method: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
            assert method == "PATCH"
            if "patch poddisruptionbudgets" in server.denied:
                return 403, _not_allowed("patch", "poddisruptionbudgets", name)
            server.budgets[name] = body
            return 201, body

    return Handler
