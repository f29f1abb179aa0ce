"""The names of what `manifests/` installs on a cluster: the code that asks for them, and the tests, read them here."""

from __future__ import annotations

from miniml.tracking import CREDENTIALS

NAMESPACE = "kubeflow"
"""Where Kubeflow Pipelines runs its steps, and, unless said otherwise, where models are served."""
RUNTIME = "miniml"
"""The ClusterServingRuntime that runs our predictor."""
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
MLFLOW_ENVIRONMENT = {name: name for name in CREDENTIALS}
"""Its keys, and the variables in which MLflow's client reads them."""
FIELD_MANAGER = "miniml"
"""In whose name deploy applies objects (server-side apply)."""


def make_serving_namespace(namespace: str) -> str:
    """The command that makes a namespace serve models: the namespace, its accounts and rights, policies and secret."""
    return f"manifests/serving-namespace.sh {namespace}"
