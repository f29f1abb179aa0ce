"""The InferenceService that serves a model on KServe, as plain data."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from miniml import __version__
from miniml.errors import InputError
from miniml.resource_names import MANAGED_BY, RUNTIME
from miniml.settings.deployment import DeploymentSettings

SERVING_GROUP = "serving.kserve.io"
API_VERSION = f"{SERVING_GROUP}/v1beta1"

MODEL_DIGEST = "miniml/model-digest"
"""Annotation: the digest that the served model folder is signed with."""
REVISION = "miniml/revision"
"""Annotation: changes with whatever changes the pods. KServe copies it to them, so old and new can be told apart."""
STOPPED = f"{SERVING_GROUP}/stop"
"""Annotation of KServe's: where it is "true", the service has no pods, and keeps having none when it is applied."""
RUN = "miniml/run"
"""Label: the pipeline run that made the object."""

# Where a pod's model comes from, by the scheme of the artifact's URI. KFP writes minio:// for the S3
# store of its cluster, which KServe knows as s3://.
_KSERVE_SCHEMES = {"minio://": "s3://", "s3://": "s3://", "gs://": "gs://", "/": "file:///"}


def predictor_name(service: str) -> str:
    """Names what KServe makes of an InferenceService: the Deployment, the Service and the autoscaler."""
    return f"{service}-predictor"


def storage_uri(model_uri: str) -> str:
    """The model's address as KServe's storage initializer reads it; only the scheme may change."""
    for ours, theirs in _KSERVE_SCHEMES.items():
        if model_uri.startswith(ours):
            return theirs + model_uri.removeprefix(ours)
    raise InputError(
        f"model URI {model_uri!r} cannot be served; KServe reads {', '.join(_KSERVE_SCHEMES)}. "
        f"Set the pipeline root to one of them."
    )


def inference_service(
    storage: str, digest: str, settings: DeploymentSettings, run: str = ""
) -> dict[str, Any]:
    """The object to apply: `storage` holds the model folder of that digest, `run` is the id of the run that made it."""
    predictor = _predictor(storage, digest, settings)
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {
            "name": settings.service_name,
            "namespace": settings.namespace,
            "labels": {
                "app.kubernetes.io/name": settings.service_name,
                **MANAGED_BY,
                "app.kubernetes.io/version": __version__,
                **({RUN: run} if run else {}),
            },
            "annotations": {
                f"{SERVING_GROUP}/deploymentMode": "Standard",
                f"{SERVING_GROUP}/autoscalerClass": "hpa",
                MODEL_DIGEST: digest,
                REVISION: _revision(predictor, digest),
            },
        },
        "spec": {"predictor": predictor},
    }


def disruption_budget(service: dict[str, Any]) -> dict[str, Any]:
    """The PodDisruptionBudget of a `service` that a cluster has, and with which it is deleted.

    Draining nodes takes one of its pods at a time. Each service has its own: of a budget for several, the one whose
    pods do not start would keep the others from being moved.
    """
    metadata = service["metadata"]
    owner = {key: service[key] for key in ("apiVersion", "kind")} | {
        key: metadata[key] for key in ("name", "uid")
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": predictor_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {"app.kubernetes.io/name": metadata["name"], **MANAGED_BY},
            "ownerReferences": [owner],
        },
        "spec": {
            # Not minAvailable: 1 of a service with one pod would keep its node from ever being drained.
            "maxUnavailable": 1,
            # Nor must a pod that does not serve anyway.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {
                "matchLabels": {
                    f"{SERVING_GROUP}/inferenceservice": metadata["name"],
                    "component": "predictor",
                }
            },
        },
    }


def _revision(predictor: dict[str, Any], digest: str) -> str:
    content = json.dumps([predictor, __version__], sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _predictor(storage: str, digest: str, settings: DeploymentSettings) -> dict[str, Any]:
    resources = {"cpu": settings.cpu, "memory": settings.memory}
    return {
        "minReplicas": settings.min_replicas,
        "maxReplicas": settings.max_replicas,
        "scaleMetric": settings.autoscaling_metric,
        "scaleTarget": settings.autoscaling_target,
        "serviceAccountName": settings.service_account,
        # A server's own grace is 30 s, the pod's must be longer or it is killed with requests in flight.
        "terminationGracePeriodSeconds": 45,
        # The runtime confines its own container; this is for the one that fetches the model, too.
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "model": {
            "runtime": RUNTIME,
            "modelFormat": {"name": "huggingface"},
            "protocolVersion": "v2",
            "storageUri": storage,
            # KServe puts these behind the runtime's own arguments. A pod that starts next year reads the store anew:
            # it must find the model that the gate let through, or not start.
            "args": [f"--expected_digest={digest}"],
            "resources": {"requests": resources, "limits": resources},
        },
    }
