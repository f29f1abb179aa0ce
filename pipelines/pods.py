"""Configures the pod of each stage on a cluster: resources, secrets, retries and caching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from miniml.resource_names import MLFLOW_ENVIRONMENT, MLFLOW_SECRET, S3_ENVIRONMENT, S3_SECRET
from miniml.settings.steps import MIN_CPU, MIN_MEMORY

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Resources:
    """The requests and limits of a step: with all set, a ResourceQuota admits the pod, and no LimitRange changes it.

    CPU requests are small, as a node of four cores also runs Kubeflow Pipelines; a step that is alone on its node gets
    as much as its limit allows.
    """

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str


SMALL = Resources("100m", "1", "256Mi", "1Gi")
"""The resources of steps that query a cluster or a store, or compare metrics: they start with 80 to 90 MiB."""
DATA = Resources("250m", "4", "1Gi", "4Gi")
"""The resources of transform: 700,000 reviews take 0.4 to 1 GiB (docs/benchmarks.md), and datasets may be larger."""
AS_TOLD = None
"""Stands for the resources in the run's arguments (`miniml.settings.steps.StepSettings`), for steps with a model."""


@dataclass(frozen=True)
class PodSettings:
    """The configuration of a stage's pod. On a laptop it has no effect."""

    resources: Resources | None = SMALL
    gpus: bool = False
    """Whether it may have GPUs, as many as the run's arguments say."""
    store: bool = False
    """Whether it reads from S3 or writes to it by itself: KFP stores its artifacts anyway."""
    mlflow: bool = False
    """Whether it may log to an MLflow server."""
    survives: bool = False
    """Whether a new pod resumes the step where this one was deleted."""
    cached: bool = True
    """Whether the step's outputs may come from the cache: not where it reads or changes what is outside the run."""


PODS = {
    "preflight": PodSettings(store=True, cached=False),
    "transform": PodSettings(DATA, store=True),
    "train": PodSettings(AS_TOLD, gpus=True, store=True, mlflow=True, survives=True),
    "evaluate": PodSettings(AS_TOLD, store=True),
    "deploy": PodSettings(cached=False),
}
"""The pods of the stages that need more than a small pod, or may not be cached."""


def give(task: dsl.PipelineTask, pod: PodSettings, arguments: Mapping[str, Any]) -> None:
    """Configures a step's pod.

    Args:
        task: The step.
        pod: The configuration of its stage's pod.
        arguments: The run's arguments, as the pipeline's function has them.
    """
    # Our images' user is not root, but Pod Security `restricted` wants that it is asked for.
    kubernetes.set_security_context(task, run_as_non_root=True)
    if pod.resources:
        _has(task, pod.resources)
    else:
        _has_as_told(task, arguments, gpus=pod.gpus)
    if pod.store:
        # Where s3:// is and the keys to it; on a laptop, the person's own environment says so.
        kubernetes.use_secret_as_env(task, S3_SECRET, S3_ENVIRONMENT, optional=True)
    if pod.mlflow:
        kubernetes.use_secret_as_env(task, MLFLOW_SECRET, MLFLOW_ENVIRONMENT, optional=True)
    if pod.survives:
        _survives(task)
    if not pod.cached:
        task.set_caching_options(False)


def _has(task: dsl.PipelineTask, resources: Resources) -> None:
    task.set_cpu_request(resources.cpu_request)
    task.set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory_request)
    task.set_memory_limit(resources.memory_limit)


def _has_as_told(task: dsl.PipelineTask, arguments: Mapping[str, Any], *, gpus: bool) -> None:
    """Gives the pod what the run's arguments say.

    Where the one for GPUs is empty, the pod is told nothing of them (kubeflow/pipelines 2.17.0,
    backend/src/v2/driver/driver.go, initPodSpecPatch). A whole number would always come to nothing there (resolve.go,
    resolvePodSpecInputRuntimeParameter).
    """
    cpu, memory = told = [arguments["train_cpu"], arguments["train_memory"]]
    _has(task, Resources(MIN_CPU, cpu, MIN_MEMORY, memory))
    if gpus:
        task.set_accelerator_type(GPU)
        task.set_accelerator_limit(arguments["train_gpus"])
        told.append(arguments["train_gpus"])
    # Else a loop around the task has no such inputs, and its driver fails: the SDK counts, as of 2.17, only what the
    # component is given.
    task.register_pipeline_channels(told)


def _survives(task: dsl.PipelineTask) -> None:
    """Has a training whose pod was deleted go on in another one, from its last checkpoint.

    A stock KFP runs no other step again (docs/decisions/0020-checkpoints.md): where the training itself dies, the
    step's own process starts it again. The month counts from when the first pod began; the hour that is KFP's default
    would end a longer training in its second pod, or keep it from having one.
    """
    task.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="30d")
