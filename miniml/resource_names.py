"""Names the resources that `manifests/` installs on a cluster."""

from __future__ import annotations

import re

from miniml.images import tag

NAMESPACE = "kubeflow"
"""The namespace in which Kubeflow Pipelines runs its steps."""
KIND_HOST = "http://localhost:8880"
"""The address of Kubeflow Pipelines' UI in the cluster of `make cluster` (see kind-config.yaml)."""
SERVING_NAMESPACE = "models"
"""The default namespace in which models are served."""
SERVING_LABEL = "miniml/serving"
"""The label of a namespace in which models may be served; its value is "true"."""
RUNTIME = "miniml-" + re.sub("[^a-z0-9.-]", "-", tag().lower())
"""The ClusterServingRuntime of the predictor, with the tag of its image in the name: when a runtime changes, KServe
rolls out all of its services at once. So each version has its own, and affects only what is deployed with it."""
PIPELINE_ACCOUNT = "miniml-pipeline"
"""The service account of a run's steps, with KFP's rights and those that deploy needs."""
PREDICTOR_ACCOUNT = "miniml-predictor"
"""The service account of the predictor's pods, which refers to `S3_SECRET`."""
S3_SECRET = "miniml-s3"  # noqa: S105  # its name, not its content
"""The secret, in KServe's format, with which a pod's storage initializer reads the model."""
S3_ENVIRONMENT = {name: name for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
"""The keys of that secret, and the environment variables in which the stages read them for s3:// addresses."""
MLFLOW_SECRET = "miniml-mlflow"  # noqa: S105  # its name, not its content
"""The secret, which may be missing, with which train logs to an MLflow server."""
MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""The environment variables of MLflow's credentials; as part of the address they would be written into every log."""
MLFLOW_ENVIRONMENT = {name: name for name in MLFLOW_CREDENTIALS}
"""The keys of that secret, and the environment variables in which MLflow's client reads them."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "miniml"}
"""The label of all objects that deploy and train create, and of their pods; the network policies select by it."""
GPU = "nvidia.com/gpu"
"""The resource, and the taint of the nodes that have it, of NVIDIA's device plugin."""
GPU_TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
"""What admits a pod to nodes with GPUs where a taint keeps others off them. Some clusters add it by themselves (the
admission plugin ExtendedResourceToleration), others do not."""
FIELD_MANAGER = "miniml"
"""The field manager of deploy's server-side apply."""


def make_serving_namespace(namespace: str) -> str:
    """Returns the command that prepares a namespace for serving: accounts, rights, policies and secret."""
    return f"manifests/serving-namespace.sh {namespace}"
