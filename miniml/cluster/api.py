"""Calls the Kubernetes API for the stages, and explains its errors.

Paths are written here rather than taken from the `kubernetes` client's generated classes: those of version 30, the last
that kfp allows, cannot apply server-side (decision 36).
"""

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
from miniml.progress import duration, logger
from miniml.resource_names import FIELD_MANAGER

TRAINER_GROUP = "trainer.kubeflow.org"

RETRY_AFTER = (0.2, 1.0, 3.0, 6.0, *[10.0] * 11)
"""Seconds between attempts of a call that the API server dropped or was too busy to answer: two minutes in all. The
server may be restarting, or a webhook's only pod may be moving to another node. All calls here are safe to repeat:
reads, server-side apply, reviews, and deletes of what may be gone."""
BRIEFLY = RETRY_AFTER[:3]
"""The same for a person who waits at a prompt, and for calls that somebody else repeats."""
WEBHOOK_AWAY = "failed calling webhook"
"""A part of the API server's message where a webhook that has to admit a write did not answer."""
_BUSY = (429, 500, 502, 503, 504)
# The message where an account lacks a right. Anything else that is forbidden is forbidden to every account.
_NOT_ALLOWED = re.compile(r'\bUser ".*cannot ')
# Seconds.
_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 30.0


class ConflictError(ClusterError):
    """Another manager owns a field that is about to change."""


class ForbiddenError(ClusterError):
    """The account lacks the right."""


class NotFoundError(ClusterError):
    """There is no such object."""


class UnreachableError(ClusterError):
    """The API server is unreachable or too busy; a later call may succeed."""


@dataclass(frozen=True)
class Permission:
    """One right of an account in a namespace."""

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
"""The rights that deploy needs, and champion in part; `manifests/` grants them to the account of a run's steps."""

TRAIN_PERMISSIONS = (
    *(Permission(verb, TRAINER_GROUP, "trainjobs") for verb in ("get", "create", "patch", "delete")),
    Permission("get", TRAINER_GROUP, "trainingruntimes"),
    Permission("get", TRAINER_GROUP, "clustertrainingruntimes"),
    Permission("get", "", "pods"),
    Permission("list", "", "pods"),
    Permission("get", "", "pods", "log"),
    Permission("list", "", "events"),
)
"""The rights that train needs where it runs on several nodes."""

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_pod() -> bool:
    """Tells whether this process runs in a pod of a cluster."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def own_namespace() -> str:
    """Returns the namespace of the pod that this process runs in.

    Raises:
        ClusterError: The process runs in no pod, or in one without a service account.
    """
    try:
        return (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ClusterError(
            f"{_ACCOUNT} does not tell in which namespace this runs ({error}). Run it in a pod that has a service "
            f"account mounted."
        ) from error


class Cluster:
    """Calls to one API server; a call that was dropped is repeated."""

    def __init__(self, api: client.ApiClient, retry_after: tuple[float, ...] = RETRY_AFTER) -> None:
        self._api = api
        self._retry_after = retry_after

    @classmethod
    def connect(cls, retry_after: tuple[float, ...] = RETRY_AFTER) -> Cluster:
        """Connects with this pod's account, or outside of a pod with the kube configuration's current context.

        Args:
            retry_after: Seconds between attempts of a call; there is one attempt more than there are numbers.

        Raises:
            ClusterError: This process runs in no pod, and there is no kube configuration.
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
        # urllib3's own retries would write to the log.
        configuration.retries = False
        return cls(client.ApiClient(configuration), retry_after)

    @property
    def host(self) -> str:
        """The API server's URL."""
        return str(self._api.configuration.host)

    @property
    def configuration(self) -> client.Configuration:
        """The client's configuration, for other clients of the same API server."""
        return self._api.configuration

    def inference_service(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Returns the InferenceService as it is now, or None where there is none."""
        return self.get(_service_path(namespace, name))

    def apply(self, service: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        """Applies an InferenceService server-side, and returns the object that results.

        Args:
            service: The object, or the fields of it to apply.
            force: Take over fields that another manager owns.

        Raises:
            ConflictError: Another manager owns a field, and `force` is False.
            ClusterError: The API server refuses the object, or there is no such namespace.
        """
        metadata = service["metadata"]
        return self.apply_at(_service_path(metadata["namespace"], metadata["name"]), service, force=force)

    def apply_at(self, path: str, thing: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        """Applies an object of any kind server-side, and returns the object that results.

        Args:
            path: The API path of the object.
            thing: The object, or the fields of it to apply.
            force: Take over fields that another manager owns.

        Raises:
            ConflictError: Another manager owns a field, and `force` is False.
            ClusterError: The API server refuses the object, or there is no such namespace.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        applied: dict[str, Any] = self._call("PATCH", path, query, thing)
        return applied

    def delete_inference_service(self, namespace: str, name: str) -> None:
        """Deletes the InferenceService, and does nothing where there is none."""
        self.delete(_service_path(namespace, name))

    def try_to_create(self, path: str, thing: dict[str, Any]) -> None:
        """Checks whether rights, schema and webhooks allow an object; a dry run, which creates nothing.

        Args:
            path: The API path of the collection.
            thing: The object.

        Raises:
            ClusterError: The API server refuses the object; the message gives its reason.
        """
        self._call("POST", path, {"dryRun": "All"}, thing)

    def delete(self, path: str) -> None:
        """Deletes the object at an API path, and does nothing where there is none."""
        try:
            self._call("DELETE", path)
        except NotFoundError:
            return

    def pods(self, namespace: str, service_name: str) -> list[dict[str, Any]]:
        """Returns the pods of an InferenceService that are not being deleted."""
        return self.pods_with(
            namespace, f"{SERVING_GROUP}/inferenceservice={service_name},component=predictor"
        )

    def pods_with(self, namespace: str, labels: str) -> list[dict[str, Any]]:
        """Returns the pods that match a label selector and are not being deleted."""
        pods = self.labelled(f"/api/v1/namespaces/{namespace}/pods", labels)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def labelled(self, path: str, labels: str) -> list[dict[str, Any]]:
        """Returns the objects of the collection at an API path that match a label selector."""
        found: list[dict[str, Any]] = self._call("GET", path, {"labelSelector": labels})["items"]
        return found

    def log(self, namespace: str, pod: str, container: str, *, lines: int, previous: bool) -> str:
        """Returns the last lines that a container printed, or "" where there is no log.

        Args:
            namespace: The pod's namespace.
            pod: The pod's name.
            container: The container's name.
            lines: How many lines, at most.
            previous: Read the log of the container as it was before its last restart.
        """
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            return str(self._call("GET", path, query, text=True, briefly=True))
        except ClusterError:
            # A container that never started has no log, and a log only helps to explain another error.
            return ""

    def following_log(
        self, namespace: str, pod: str, container: str, *, since: str, idle: float
    ) -> Iterator[str]:
        """Yields the lines that a container prints until it ends, each after its time (RFC 3339) and a blank.

        The log ends early where the connection breaks or no line comes for `idle` seconds; call again to go on.

        Args:
            namespace: The pod's namespace.
            pod: The pod's name.
            container: The container's name.
            since: The second to begin with, in RFC 3339; "" is the beginning of the log.
            idle: Seconds.

        Raises:
            ClusterError: There is no log.
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
                # Half a line may be lost; the next call begins at its second, and so yields it whole.
                return
        if rest:
            yield rest.decode("utf-8", errors="replace")

    def previous_log(self, namespace: str, pod: str, container: str, *, since: str) -> list[str]:
        """Returns the lines that a container printed before its last restart, in the form of `following_log`.

        Args:
            namespace: The namespace of the pod.
            pod: The name of the pod.
            container: The name of the container.
            since: The time (RFC 3339) from which lines are returned; "" returns all.

        Raises:
            ClusterError: The API server refuses the request or does not answer, or there was no restart.
        """
        query = _log_query(container, since) | {"previous": "true"}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        return str(self._call("GET", path, query, text=True, briefly=True)).splitlines()

    def warnings(self, namespace: str, names: set[str]) -> list[str]:
        """Returns the warnings about the objects of these names, each as a line, the newest last."""
        found = self.warning_events(namespace)
        return [events.line(event) for event in found if event["involvedObject"].get("name") in names]

    def warning_events(self, namespace: str) -> list[events.Event]:
        """Returns the warning events of a namespace, the newest last."""
        query = {"fieldSelector": "type=Warning"}
        answer = self._call("GET", f"/api/v1/namespaces/{namespace}/events", query)
        return sorted(answer["items"], key=events.time_of)

    def get(self, path: str) -> dict[str, Any] | None:
        """Returns the object at an API path, or None where there is none."""
        try:
            found: dict[str, Any] = self._call("GET", path)
        except NotFoundError:
            return None
        return found

    def allows(self, permission: Permission, namespace: str) -> bool:
        """Tells whether our account has a right in a namespace."""
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
        """Returns our account's name (such as system:serviceaccount:kubeflow:miniml-pipeline), or "" if unknown."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        except (NotFoundError, ForbiddenError):
            return ""
        return str(answer["status"]["userInfo"]["username"])

    def ask_through_proxy(self, namespace: str, service: str, path: str, body: dict[str, Any]) -> Any:
        """Posts JSON to a Service through the API server, for callers outside the cluster's network.

        Args:
            namespace: The Service's namespace.
            service: The Service's name; its port is 80.
            path: The path below the Service.
            body: What to post.

        Returns:
            The decoded JSON of the answer.
        """
        proxy = f"/api/v1/namespaces/{namespace}/services/http:{service}:80/proxy{path}"
        # A 500 may be the Service's own answer here, and waiting does not change that.
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
        """Returns what `ask` returns, and asks again where the API server is too busy or the connection is lost.

        A wait of more than a few seconds is announced once.

        Args:
            ask: Makes one call; it may be made several times.
            method: The call's HTTP method, for error messages.
            path: The call's API path, likewise.
            briefly: Give up after a few seconds rather than two minutes.

        Raises:
            NotFoundError: The API server has no such object.
            ConflictError: Another manager owns a field, or the object exists already.
            ForbiddenError: The account lacks the right.
            UnreachableError: The API server was unreachable or too busy at every attempt.
            ClusterError: The API server refuses the call for another reason.
        """
        waits = self._retry_after[: len(BRIEFLY)] if briefly else self._retry_after
        for tries, wait in enumerate(waits):
            try:
                return self._answer(ask, method, path)
            except UnreachableError as error:
                if tries == len(BRIEFLY):
                    logger.info(f"waiting for up to {duration(sum(waits[tries:]))}, because {error}")
                time.sleep(wait)
        return self._answer(ask, method, path)

    def _answer(self, ask: Callable[[], Any], method: str, path: str) -> Any:
        """Returns what `ask` returns, and replaces the client's errors by a ClusterError that says what to do."""
        try:
            return ask()
        except ApiException as error:
            raise _explained(error, method, path, self.host) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _no_answer(error, self.host) from error

    def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: dict[str, Any] | None,
        accept: str,
        read_timeout: float = _READ_TIMEOUT,
    ) -> urllib3.HTTPResponse:
        """Sends one request, and returns the response with its body unread."""
        # A name from a command line or a record may hold "../", which would lead to another object.
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
    if error.status == 403:
        # The account has the right: a webhook, a policy, Pod Security or a quota refuses, and says why.
        return ClusterError(f"the cluster refuses {method} {path}: {said}")
    kind = UnreachableError if error.status in _BUSY else ClusterError
    return kind(f"the cluster at {host} answers {error.status} to {method} {path}: {said}")


def _no_answer(error: Exception, host: str) -> UnreachableError:
    return UnreachableError(
        f"the Kubernetes API at {host} does not answer ({error}). Check that the cluster runs and that this machine "
        f"reaches it: kubectl cluster-info."
    )


def _message(error: ApiException) -> str:
    """Returns the API server's own message, which it sends as a Status object."""
    body = error.body.decode("utf-8", errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        return clipped(str(json.loads(body)["message"]), 2 * events.LONGEST)
    except (TypeError, ValueError, KeyError):
        return clipped(str(body or error.reason), events.LONGEST)
