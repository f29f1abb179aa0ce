"""Renders the InferenceService that serves a model on KServe, as plain data."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from miniml import __version__
from miniml.errors import InputError
from miniml.resource_names import GPU, GPU_TOLERATION, MANAGED_BY, RUNTIME
from miniml.settings.deployment import DeploymentSettings

SERVING_GROUP = "serving.kserve.io"
API_VERSION = f"{SERVING_GROUP}/v1beta1"

MODEL_DIGEST = "miniml/model-digest"
"""Annotation: the digest of the served model folder."""
REVISION = "miniml/revision"
"""Annotation: a hash of all that makes new pods. KServe copies it to the pods, which tells old and new ones apart."""
STOPPED = f"{SERVING_GROUP}/stop"
"""Annotation of KServe's: while it is "true", the service has no pods, even if it is applied again."""
RUN = "miniml/run"
"""Label: the id of the pipeline run that applied the object."""

# The scheme of an artifact's URI, and KServe's for the same address. KFP writes minio:// for the S3 store of its
# cluster.
_KSERVE_SCHEMES = {"minio://": "s3://", "s3://": "s3://", "gs://": "gs://", "/": "file:///"}


def predictor_name(service: str) -> str:
    """Returns the name of the Deployment, Service and autoscaler that KServe creates for an InferenceService."""
    return f"{service}-predictor"


def storage_uri(model_uri: str) -> str:
    """Returns the model's address for KServe's storage initializer; it may differ in its scheme only.

    Raises:
        InputError: KServe cannot read this scheme.
    """
    for prefix, kserve_prefix in _KSERVE_SCHEMES.items():
        if model_uri.startswith(prefix):
            return kserve_prefix + model_uri.removeprefix(prefix)
    raise InputError(
        f"model URI {model_uri!r} cannot be served; KServe reads {', '.join(_KSERVE_SCHEMES)}. "
        f"Set the pipeline root to one of them."
    )


def inference_service(
    storage: str, digest: str, settings: DeploymentSettings, run: str = ""
) -> dict[str, Any]:
    """Returns the InferenceService to apply.

    Args:
        storage: The address of the model folder, from `storage_uri`.
        digest: The folder's digest, which the server compares before it loads the model.
        settings: The service's name, namespace and resources.
        run: The id of the pipeline run, for a label; "" leaves the label out.
    """
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
    """Returns a PodDisruptionBudget that lets a drain take one pod of the service at a time.

    Each service has its own: in a budget for several, pods of one that do not start would block the drain of the
    others. The budget is deleted with its service.

    Args:
        service: The InferenceService as the cluster has it.
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
            # With minAvailable: 1, the node of a service with one pod could never be drained.
            "maxUnavailable": 1,
            # A pod that is not ready must not block a drain either.
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
    if settings.gpus:
        resources[GPU] = str(settings.gpus)
    return {
        "minReplicas": settings.min_replicas,
        "maxReplicas": settings.max_replicas,
        "scaleMetric": settings.autoscaling_metric,
        "scaleTarget": settings.autoscaling_target,
        "serviceAccountName": settings.service_account,
        **({"nodeSelector": settings.node_labels} if settings.node_selector else {}),
        **({"tolerations": [GPU_TOLERATION]} if settings.gpus else {}),
        # The server finishes its requests within 30 s; with less time than that the pod would be killed before.
        "terminationGracePeriodSeconds": 45,
        # The runtime restricts its own container only; the storage initializer's needs it too.
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
            # KServe appends these to the runtime's own arguments. A pod that starts later fetches the model again: it
            # must get the model that the gate approved, or not start.
            "args": [f"--expected_digest={digest}"],
            "resources": {"requests": resources, "limits": resources},
        },
    }
