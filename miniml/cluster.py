"""The Kubernetes API as preflight, champion and deploy need it: a handful of calls, and errors that say what to do."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from miniml.errors import ClusterError
from miniml.installation import FIELD_MANAGER

SERVING_GROUP = "serving.kserve.io"

# Seconds between the tries of a call that the API server dropped or was too busy for. Every call made here
# may be made twice: reads, server-side apply, reviews, and deletes of what may be gone.
RETRY_AFTER = (0.2, 1.0, 3.0)
_BUSY = (429, 500, 502, 503, 504)


class ConflictError(ClusterError):
    """Somebody else manages a field that is about to be changed."""


class ForbiddenError(ClusterError):
    """The account that asks may not do that."""


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
    Permission("list", "", "pods"),
    Permission("get", "", "pods", "log"),
    Permission("list", "", "events"),
)
"""What deploy does, and champion some of it; `manifests/` grants it to the account of a run's steps."""


def in_pod() -> bool:
    """Whether this process runs in a pod of a cluster."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


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
        applied: dict[str, Any] = self._call(
            "PATCH",
            _service_path(metadata["namespace"], metadata["name"]),
            {"fieldManager": FIELD_MANAGER, "force": str(force).lower()},
            service,
        )
        return applied

    def delete_inference_service(self, namespace: str, name: str) -> None:
        """Deletes it; that there is none is as good."""
        try:
            self._call("DELETE", _service_path(namespace, name))
        except _NotFoundError:
            return

    def pods(self, namespace: str, service_name: str) -> list[dict[str, Any]]:
        """The pods that serve it, the ones that are going away left out."""
        selector = f"{SERVING_GROUP}/inferenceservice={service_name},component=predictor"
        answer = self._call("GET", f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})
        return [pod for pod in answer["items"] if "deletionTimestamp" not in pod["metadata"]]

    def log(self, namespace: str, pod: str, container: str, *, lines: int, previous: bool) -> str:
        """The last lines that a container printed; `previous` is the one before its last restart."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            return str(self._call("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query, text=True))
        except ClusterError:
            return ""  # A container that never started has none, and a log is wanted only to explain something else.

    def warnings(self, namespace: str, names: set[str]) -> list[str]:
        """What the cluster warned of these objects, the newest last."""
        answer = self._call(
            "GET", f"/api/v1/namespaces/{namespace}/events", {"fieldSelector": "type=Warning"}
        )
        events = [event for event in answer["items"] if event["involvedObject"].get("name") in names]
        events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return [
            f"{event['involvedObject']['name']}: {event['reason']}: {event['message']}" for event in events
        ]

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at an API path, or None where there is none."""
        try:
            found: dict[str, Any] = self._call("GET", path)
        except _NotFoundError:
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

    def ask_through_proxy(self, namespace: str, service: str, path: str, body: dict[str, Any]) -> Any:
        """Posts to a Service through the API server, for callers that stand outside the cluster's network."""
        return self._call(
            "POST", f"/api/v1/namespaces/{namespace}/services/http:{service}:80/proxy{path}", body=body
        )

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        *,
        text: bool = False,
    ) -> Any:
        for wait in (*self._retry_after, None):
            try:
                return self._call_once(method, path, query or {}, body, text)
            except ApiException as error:
                if error.status not in _BUSY or wait is None:
                    raise _explained(error, method, path, self.host) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if wait is None:
                    raise ClusterError(
                        f"the Kubernetes API at {self.host} does not answer ({error}). Check that the cluster runs "
                        f"and that this machine reaches it: kubectl cluster-info."
                    ) from error
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _call_once(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any] | None, text: bool
    ) -> Any:
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        response = self._api.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": "*/*" if text else "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=(5, 30),  # seconds to connect, and to answer
        )
        content = response.data.decode("utf-8", errors="replace")
        return content if text else json.loads(content)


class _NotFoundError(ClusterError):
    """There is no such object."""


def _service_path(namespace: str, name: str) -> str:
    return f"/apis/{SERVING_GROUP}/v1beta1/namespaces/{namespace}/inferenceservices/{name}"


def _explained(error: ApiException, method: str, path: str, host: str) -> ClusterError:
    said = _message(error)
    if error.status == 404:
        return _NotFoundError(f"the cluster at {host} has nothing at {path}: {said}")
    if error.status == 409:
        return ConflictError(said)
    if error.status == 401:
        return ClusterError(
            f"the cluster at {host} does not accept these credentials ({said}). Log in again."
        )
    if error.status == 403:
        return ForbiddenError(
            f"the cluster refuses {method} {path}: {said}. Grant the right to the account that it names; for a "
            f"run's steps, manifests/ does: kubectl apply -k manifests/overlays/<yours>."
        )
    return ClusterError(f"the cluster at {host} answers {error.status} to {method} {path}: {said}")


def _message(error: ApiException) -> str:
    """The API server's own sentence, which it sends as a Status object."""
    body = error.body.decode("utf-8", errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        return str(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(body or error.reason)
