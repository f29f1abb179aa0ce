"""The Kubernetes API as the stages need it: a handful of calls, and errors that say what to do."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from miniml.cluster import events
from miniml.cluster.inference_service import API_VERSION, SERVING_GROUP
from miniml.errors import ClusterError
from miniml.escaping import clipped, quoted
from miniml.progress import duration, note
from miniml.resource_names import FIELD_MANAGER

TRAINER_GROUP = "trainer.kubeflow.org"

RETRY_AFTER = (0.2, 1.0, 3.0, 6.0, *[10.0] * 11)
"""Seconds between the tries of a call that the API server dropped, or could not answer just then: two minutes in all.
It may be restarting, or a webhook's only pod is being moved to another node. Every call made here may be made twice:
reads, server-side apply, reviews, and deletes of what may be gone."""
BRIEFLY = RETRY_AFTER[:3]
"""The same for a person who waits at a prompt, and for what has somebody else to try again."""
WEBHOOK_AWAY = "failed calling webhook"
"""What the API server says of a write that a webhook should have looked at and nobody answered for."""
_BUSY = (429, 500, 502, 503, 504)
# As an account without the right is told, after its name; whatever else is forbidden is so for everybody.
_NOT_ALLOWED = re.compile(r'\bUser ".*cannot ')
# Seconds.
_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 30.0


class ConflictError(ClusterError):
    """Somebody else manages a field that is about to be changed."""


class ForbiddenError(ClusterError):
    """The account that asks may not do that."""


class NotFoundError(ClusterError):
    """There is no such object."""


class UnreachableError(ClusterError):
    """The API server does not answer, or not as one that is well; it may come back."""


@dataclass(frozen=True)
class Permission:
    """What an account may be allowed to do in a namespace."""

    verb: str
    group: str
    resource: str
    subresource: str = ""

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {resource}{'.' + self.group if self.group else ''}"


DEPLOY_PERMISSIONS = (
    *(Permission(verb, SERVING_GROUP, "inferenceservices") for verb in ("get", "create", "patch", "delete")),
    *(Permission(verb, "policy", "poddisruptionbudgets") for verb in ("create", "patch")),
    Permission("list", "", "pods"),
    Permission("get", "", "pods", "log"),
    Permission("list", "", "events"),
)
"""What deploy does, and champion some of it; `manifests/` grants it to the account of a run's steps."""

TRAIN_PERMISSIONS = (
    *(Permission(verb, TRAINER_GROUP, "trainjobs") for verb in ("get", "create", "patch", "delete")),
    Permission("get", TRAINER_GROUP, "trainingruntimes"),
    Permission("get", TRAINER_GROUP, "clustertrainingruntimes"),
    Permission("get", "", "pods"),
    Permission("list", "", "pods"),
    Permission("get", "", "pods", "log"),
    Permission("list", "", "events"),
)
"""What train does where it runs on several nodes."""

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_pod() -> bool:
    """Whether this process runs in a pod of a cluster."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def own_namespace() -> str:
    """The namespace of the pod that this runs in.

    Raises:
        ClusterError: it runs in none, or in one without an account.
    """
    try:
        return (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ClusterError(
            f"{_ACCOUNT} does not tell in which namespace this runs ({error}). Run it in a pod that has a service "
            f"account mounted."
        ) from error


class Cluster:
    """Calls to one API server, each tried again where it was dropped."""

    def __init__(self, api: client.ApiClient, retry_after: tuple[float, ...] = RETRY_AFTER) -> None:
        self._api = api
        self._retry_after = retry_after

    @classmethod
    def connect(cls, retry_after: tuple[float, ...] = RETRY_AFTER) -> Cluster:
        """With the account of the pod that this runs in, or else the current context of the kube configuration.

        Raises:
            ClusterError: there is neither.
        """
        configuration = client.Configuration()
        try:
            if in_pod():
                config.load_incluster_config(configuration)
            else:
                # Read here, for the client reads the variable only once, when it is imported.
                config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
        except config.ConfigException as error:
            raise ClusterError(
                f"no Kubernetes cluster is configured here ({error}). Run this in a pod, or set KUBECONFIG to the "
                f"file of your cluster."
            ) from error
        configuration.retries = False  # urllib3's own tries would log, and hide how often it was
        return cls(client.ApiClient(configuration), retry_after)

    @property
    def host(self) -> str:
        return str(self._api.configuration.host)

    @property
    def configuration(self) -> client.Configuration:
        """For other clients of the same API server."""
        return self._api.configuration

    def inference_service(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The object as it is now, or None where there is none."""
        return self.get(_service_path(namespace, name))

    def apply(self, service: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        """Applies an InferenceService server-side, and gives what the API server made of it.

        Raises:
            ConflictError: another manager owns a field, and `force` does not say to take it over.
            ClusterError: it is refused, or there is no such namespace.
        """
        metadata = service["metadata"]
        return self.apply_at(_service_path(metadata["namespace"], metadata["name"]), service, force=force)

    def apply_at(self, path: str, thing: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        """Applies any object, or some fields of it, server-side; see `apply`."""
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        applied: dict[str, Any] = self._call("PATCH", path, query, thing)
        return applied

    def delete_inference_service(self, namespace: str, name: str) -> None:
        """Deletes it; that there is none is as good."""
        self.delete(_service_path(namespace, name))

    def try_to_create(self, path: str, thing: dict[str, Any]) -> None:
        """Asks whether the object could be created below an API path, by rights, schema and webhooks; none is.

        Raises:
            ClusterError: it is refused, with what was said.
        """
        self._call("POST", path, {"dryRun": "All"}, thing)

    def delete(self, path: str) -> None:
        """Deletes the object at an API path; that there is none is as good."""
        try:
            self._call("DELETE", path)
        except NotFoundError:
            return

    def pods(self, namespace: str, service_name: str) -> list[dict[str, Any]]:
        """The pods that serve it, the ones that are going away left out."""
        return self.pods_with(
            namespace, f"{SERVING_GROUP}/inferenceservice={service_name},component=predictor"
        )

    def pods_with(self, namespace: str, labels: str) -> list[dict[str, Any]]:
        """The pods that a label selector finds, the ones that are going away left out."""
        pods = self.labelled(f"/api/v1/namespaces/{namespace}/pods", labels)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def labelled(self, path: str, labels: str) -> list[dict[str, Any]]:
        """The objects at an API path that a label selector finds."""
        found: list[dict[str, Any]] = self._call("GET", path, {"labelSelector": labels})["items"]
        return found

    def log(self, namespace: str, pod: str, container: str, *, lines: int, previous: bool) -> str:
        """The last lines that a container printed; `previous` is the one before its last restart."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            return str(self._call("GET", path, query, text=True, briefly=True))
        except ClusterError:
            return ""  # A container that never started has none, and a log is wanted only to explain something else.

    def following_log(
        self, namespace: str, pod: str, container: str, *, since: str, idle: float
    ) -> Iterator[str]:
        """What a container prints, line by line, each behind its time (RFC 3339) and a blank, until it ends.

        It begins with the second `since` ("" is the very beginning), and ends early where the connection breaks or
        `idle` seconds pass without a line: it can be asked for again then.

        Raises:
            ClusterError: there is no log to be had.
        """
        path, rest = f"/api/v1/namespaces/{namespace}/pods/{pod}/log", b""
        query = _log_query(container, since) | {"follow": "true"}
        ask = partial(self._ask, "GET", path, query, None, "*/*", idle)
        response = self.retried(ask, "GET", path, briefly=True)
        with closing(response):
            try:
                for chunk in response.stream(1 << 16):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from (line.decode("utf-8", errors="replace") for line in lines)
            except (urllib3.exceptions.HTTPError, OSError):
                return  # With half a line, perhaps, which then comes again as a whole one.
        if rest:
            yield rest.decode("utf-8", errors="replace")

    def previous_log(self, namespace: str, pod: str, container: str, *, since: str) -> list[str]:
        """What a container printed before its last restart, in the lines of `following_log`."""
        query = _log_query(container, since) | {"previous": "true"}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        return str(self._call("GET", path, query, text=True, briefly=True)).splitlines()

    def warnings(self, namespace: str, names: set[str]) -> list[str]:
        """What the cluster warned of these objects, the newest last."""
        found = self.warning_events(namespace)
        return [events.line(event) for event in found if event["involvedObject"].get("name") in names]

    def warning_events(self, namespace: str) -> list[events.Event]:
        """All that the cluster warned of in a namespace, the newest last."""
        query = {"fieldSelector": "type=Warning"}
        answer = self._call("GET", f"/api/v1/namespaces/{namespace}/events", query)
        return sorted(answer["items"], key=events.time_of)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at an API path, or None where there is none."""
        try:
            found: dict[str, Any] = self._call("GET", path)
        except NotFoundError:
            return None
        return found

    def allows(self, permission: Permission, namespace: str) -> bool:
        """Whether the account that asks may do that."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": permission.verb,
                    "group": permission.group,
                    "resource": permission.resource,
                    "subresource": permission.subresource,
                }
            },
        }
        answer = self._call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        return bool(answer["status"]["allowed"])

    def user(self) -> str:
        """Whom the API server takes us for (system:serviceaccount:kubeflow:miniml-pipeline); "" if it does not tell."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        except (NotFoundError, ForbiddenError):
            return ""
        return str(answer["status"]["userInfo"]["username"])

    def ask_through_proxy(self, namespace: str, service: str, path: str, body: dict[str, Any]) -> Any:
        """Posts to a Service through the API server, for callers that stand outside the cluster's network."""
        proxy = f"/api/v1/namespaces/{namespace}/services/http:{service}:80/proxy{path}"
        # A 500 may be the service's own answer here, which waiting does not change.
        return self._call("POST", proxy, body=body, briefly=True)

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        *,
        text: bool = False,
        briefly: bool = False,
    ) -> Any:
        accept = "*/*" if text else "application/json"

        def ask() -> Any:
            content = self._ask(method, path, query or {}, body, accept).data
            return content.decode("utf-8", errors="replace") if text else json.loads(content)

        return self.retried(ask, method, path, briefly=briefly)

    def retried(self, ask: Callable[[], Any], method: str, path: str, *, briefly: bool = False) -> Any:
        """What `ask` gives, asked again where the API server was too busy or the connection was lost.

        Where that takes longer than a moment it says once what is waited for, and `briefly` waits no longer than that.

        Raises:
            NotFoundError, ConflictError, ForbiddenError, UnreachableError, ClusterError: the server's refusal.
        """
        waits = self._retry_after[: len(BRIEFLY)] if briefly else self._retry_after
        for tries, wait in enumerate((*waits, None)):
            try:
                return ask()
            except ApiException as error:
                trouble, may_pass = _explained(error, method, path, self.host), error.status in _BUSY
                cause: Exception = error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                trouble, may_pass = _no_answer(error, self.host), True
                cause = error
            if wait is None or not may_pass:
                raise trouble from cause
            if tries == len(BRIEFLY):
                note(f"waiting for up to {duration(sum(waits[tries:]))}, because {trouble}")
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: dict[str, Any] | None,
        accept: str,
        read_timeout: float = _READ_TIMEOUT,
    ) -> urllib3.HTTPResponse:
        """The response, its body still to be read."""
        # A name from a command line or a record may hold "../", and would lead to what nobody has asked for.
        if re.search(r"/\.{0,2}(/|$)|[?#%\\\s]", path):
            raise ClusterError(
                f"{quoted(path, most=200)} names nothing of a cluster's API. The names of namespaces and services are "
                f"lower-case letters, digits and hyphens: check them."
            )
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        response: urllib3.HTTPResponse = self._api.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": accept, "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=(_CONNECT_TIMEOUT, read_timeout),
        )
        return response


def _service_path(namespace: str, name: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/inferenceservices/{name}"


def _log_query(container: str, since: str) -> dict[str, str]:
    return {"container": container, "timestamps": "true", **({"sinceTime": since} if since else {})}


def _explained(error: ApiException, method: str, path: str, host: str) -> ClusterError:
    said = _message(error)
    if error.status == 404:
        return NotFoundError(f"the cluster at {host} has nothing at {path}: {said}")
    if error.status == 409:
        return ConflictError(said)
    if error.status == 401:
        return ClusterError(
            f"the cluster at {host} does not accept these credentials ({said}). Log in again."
        )
    if error.status == 403 and _NOT_ALLOWED.search(said):
        return ForbiddenError(
            f"the cluster refuses {method} {path}: {said}. Grant the right to the account that it names; for a "
            f"run's steps, manifests/ does: kubectl apply -k manifests/overlays/<yours>."
        )
    if (
        error.status == 403
    ):  # The right is there: a webhook, a policy, Pod Security or a quota says no, and why.
        return ClusterError(f"the cluster refuses {method} {path}: {said}")
    kind = UnreachableError if error.status in _BUSY else ClusterError
    return kind(f"the cluster at {host} answers {error.status} to {method} {path}: {said}")


def _no_answer(error: Exception, host: str) -> UnreachableError:
    return UnreachableError(
        f"the Kubernetes API at {host} does not answer ({error}). Check that the cluster runs and that this machine "
        f"reaches it: kubectl cluster-info."
    )


def _message(error: ApiException) -> str:
    """The API server's own sentence, which it sends as a Status object."""
    body = error.body.decode("utf-8", errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        return clipped(str(json.loads(body)["message"]), 2 * events.LONGEST)
    except (TypeError, ValueError, KeyError):
        return clipped(str(body or error.reason), events.LONGEST)
