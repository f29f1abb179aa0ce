"""The names of what `manifests/` installs on a cluster: the code that asks for them, and the tests, read them here."""

from __future__ import annotations

import re

from miniml.images import tag

NAMESPACE = "kubeflow"
"""Where Kubeflow Pipelines runs its steps."""
KIND_HOST = "http://localhost:8880"
"""Where Kubeflow Pipelines' UI answers in the cluster of `make cluster`, as kind-config.yaml has it."""
SERVING_NAMESPACE = "models"
"""Where models are served, unless said otherwise."""
SERVING_LABEL = "miniml/serving"
"""The label, with the value "true", of a namespace that models may be served in."""
RUNTIME = "miniml-" + re.sub("[^a-z0-9.-]", "-", tag().lower())
"""The ClusterServingRuntime that runs our predictor, by the tag of its image: KServe rolls every service of a runtime
that changes, all at once and untried. So a version brings its own, and touches only what is deployed with it."""
PIPELINE_ACCOUNT = "miniml-pipeline"
"""The service account of a run's steps: KFP's rights, and what deploy needs."""
PREDICTOR_ACCOUNT = "miniml-predictor"
"""The service account of the served pods, which lists `S3_SECRET`."""
S3_SECRET = "miniml-s3"  # noqa: S105  # its name, not its content
"""The secret, in KServe's form, with which a pod's storage initializer reads the model."""
S3_ENVIRONMENT = {name: name for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
"""Keys of that secret, and the variables in which the stages read them for what is at s3://."""
MLFLOW_SECRET = "miniml-mlflow"  # noqa: S105  # its name, not its content
"""The secret, where there is one, with which train logs to an MLflow server."""
MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Where MLflow's client takes its credentials from; an address with any would be written into every log."""
MLFLOW_ENVIRONMENT = {name: name for name in MLFLOW_CREDENTIALS}
"""Its keys, and the variables in which MLflow's client reads them."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "miniml"}
"""The label of whatever deploy and train make, and of its pods: the network policies go by it."""
FIELD_MANAGER = "miniml"
"""In whose name deploy applies objects (server-side apply)."""


def make_serving_namespace(namespace: str) -> str:
    """The command that makes a namespace serve models: the namespace, its accounts and rights, policies and secret."""
    return f"manifests/serving-namespace.sh {namespace}"
