"""The InferenceService that serves a model on KServe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from miniml import __version__, manifest
from miniml.errors import InputError
from miniml.evaluation_result import EvaluationResult
from miniml.gate import require_approved
from miniml.installation import RUNTIME
from miniml.progress import note
from miniml.settings import DeploymentSettings, GateSettings

PORT = 8080

# Where a pod's model comes from, by the scheme of the artifact's URI. KFP writes minio:// for the S3
# store of its cluster, which KServe knows as s3://.
_KSERVE_SCHEMES = {"minio://": "s3://", "s3://": "s3://", "gs://": "gs://", "/": "file:///"}


def deploy(
    model_dir: Path,
    model_uri: str,
    approved: bool,
    result: EvaluationResult,
    gate: GateSettings,
    settings: DeploymentSettings,
    manifest_path: Path,
) -> dict[str, Any]:
    """Renders the InferenceService of an approved model into `manifest_path`.

    Raises:
        GateError: the gate has not let this very model through.
        ModelFolderError: the folder is not the one that training signed.
    """
    digest = manifest.verify(model_dir).digest
    require_approved(approved, result, digest, gate)
    service = inference_service(storage_uri(model_uri), digest, settings)
    manifest_path.parent.mkdir(parents=True, exist_ok=True)
    manifest_path.write_text(yaml.safe_dump(service, sort_keys=False), encoding="utf-8")
    note(f"rendered InferenceService {settings.namespace}/{settings.service_name}")
    return service


def storage_uri(model_uri: str) -> str:
    """The model's address as KServe's storage initializer reads it; only the scheme may change."""
    for ours, theirs in _KSERVE_SCHEMES.items():
        if model_uri.startswith(ours):
            return theirs + model_uri.removeprefix(ours)
    raise InputError(
        f"model URI {model_uri!r} cannot be served; KServe reads {', '.join(_KSERVE_SCHEMES)}. "
        f"Set the pipeline root to one of them."
    )


def inference_service(storage: str, digest: str, settings: DeploymentSettings) -> dict[str, Any]:
    """The object to apply, as plain data."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": settings.service_name,
            "namespace": settings.namespace,
            "labels": {
                "app.kubernetes.io/name": settings.service_name,
                "app.kubernetes.io/managed-by": "miniml",
                "app.kubernetes.io/version": __version__,
            },
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "miniml/model-digest": digest,
            },
        },
        "spec": {"predictor": _predictor(storage, settings)},
    }


def _predictor(storage: str, settings: DeploymentSettings) -> dict[str, Any]:
    resources = {"cpu": settings.cpu, "memory": settings.memory}
    # Not /v2/health/ready: that one says yes even when no model is loaded.
    ready = {"httpGet": {"path": f"/v2/models/{settings.service_name}/ready", "port": PORT}}
    alive = {"httpGet": {"path": "/v2/health/live", "port": PORT}}
    return {
        "minReplicas": settings.min_replicas,
        "maxReplicas": settings.max_replicas,
        # A server's own grace is 30 s, the pod's must be longer or it is killed with requests in flight.
        "terminationGracePeriodSeconds": 45,
        "model": {
            "runtime": RUNTIME,
            "modelFormat": {"name": "huggingface"},
            "protocolVersion": "v2",
            "storageUri": storage,
            "resources": {"requests": resources, "limits": resources},
            # 60 tries, 5 s apart: a large model has five minutes to load.
            "startupProbe": {**ready, "periodSeconds": 5, "failureThreshold": 60},
            "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 2},
            "livenessProbe": {**alive, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
        },
    }
