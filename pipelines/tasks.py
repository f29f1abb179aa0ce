"""What a pipeline's tasks are given on a cluster."""

from __future__ import annotations

from kfp import dsl, kubernetes

from miniml.installation import MLFLOW_ENVIRONMENT, MLFLOW_SECRET, S3_ENVIRONMENT, S3_SECRET


def runs_as_nobody(task: dsl.PipelineTask) -> None:
    """Asks that the step's user is not root, which our images' is not: Pod Security `restricted` wants it asked for."""
    kubernetes.set_security_context(task, run_as_non_root=True)


def may_use_the_store(task: dsl.PipelineTask) -> None:
    """Gives a pod where s3:// is and the keys to it; on a laptop, the person's own environment says so."""
    kubernetes.use_secret_as_env(task, S3_SECRET, S3_ENVIRONMENT, optional=True)


def may_log_to_mlflow(training: dsl.PipelineTask) -> None:
    """Gives a pod the credentials of an MLflow server, where there is a secret of them."""
    kubernetes.use_secret_as_env(training, MLFLOW_SECRET, MLFLOW_ENVIRONMENT, optional=True)


def survives_its_pod(training: dsl.PipelineTask) -> None:
    """Has a training whose pod was deleted go on in another one, from its last checkpoint.

    A stock KFP runs no other step again (docs/decisions/0020-checkpoints.md): where the training itself dies, the
    step's own process starts it again. The month counts from when the first pod began; the hour that is KFP's default
    would end a longer training in its second pod, or keep it from having one.
    """
    training.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="30d")
