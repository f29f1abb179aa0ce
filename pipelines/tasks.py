"""What a pipeline's tasks are given on a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from kfp import dsl, kubernetes

from miniml.resource_names import MLFLOW_ENVIRONMENT, MLFLOW_SECRET, S3_ENVIRONMENT, S3_SECRET
from miniml.settings.steps import MIN_CPU, MIN_MEMORY
from pipelines.form import Arguments

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Resources:
    """What a step asks a node for, and the most that it gets: so a quota takes its pod, and a LimitRange adds nothing.

    Processors are asked for sparingly, for a node of four has those of Kubeflow Pipelines to share out too: a step that
    is alone has as many as its limit allows.
    """

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str


SMALL = Resources("100m", "1", "256Mi", "1Gi")
"""Of steps that ask a cluster or a store, or compare figures: they begin with 80 to 90 MiB."""
DATA = Resources("250m", "4", "1Gi", "4Gi")
"""Of transform: 700,000 reviews take 0.4 to 1 GiB (docs/benchmarks.md); there may be more of them, and longer ones."""


def has(task: dsl.PipelineTask, resources: Resources) -> None:
    """Gives a step's pod its resources; on a laptop it has what there is."""
    task.set_cpu_request(resources.cpu_request)
    task.set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory_request)
    task.set_memory_limit(resources.memory_limit)


def has_as_told(task: dsl.PipelineTask, given: Arguments, *, gpus: bool = False) -> None:
    """Gives a step's pod what the run's arguments say (`miniml.settings.steps.StepSettings`).

    Args:
        task: A step that computes with a model.
        given: The run's arguments, as the pipeline has them.
        gpus: Whether it may have GPUs. Where the argument is empty, the pod is told nothing of them (kubeflow/pipelines
            2.17.0, backend/src/v2/driver/driver.go, initPodSpecPatch). A whole number would always come to nothing
            there (resolve.go, resolvePodSpecInputRuntimeParameter).
    """
    cpu, memory = told = [given["train_cpu"], given["train_memory"]]
    has(task, Resources(MIN_CPU, cpu, MIN_MEMORY, memory))
    if gpus:
        task.set_accelerator_type(GPU)
        task.set_accelerator_limit(given["train_gpus"])
        told.append(given["train_gpus"])
    # Else a loop around the task has no such inputs, and its driver fails: the SDK counts, as of 2.17, only what the
    # component is given.
    task.register_pipeline_channels(told)


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
