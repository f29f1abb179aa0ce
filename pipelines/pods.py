"""Configures the pod of each stage on a cluster: resources, secrets, retries and caching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from miniml.resource_names import GPU, MLFLOW_ENVIRONMENT, MLFLOW_SECRET, S3_ENVIRONMENT, S3_SECRET
from miniml.settings.steps import MIN_CPU, MIN_MEMORY


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
FROM_ARGUMENTS = None
"""Stands for the resources in the run's arguments (`miniml.settings.steps.StepSettings`), for steps with a model."""


@dataclass(frozen=True)
class PodSettings:
    """The configuration of a stage's pod. On a laptop it has no effect."""

    resources: Resources | None = SMALL
    gpus: bool = False
    """Whether the pod may have GPUs: as many as the run's arguments say."""
    store: bool = False
    """Whether the step itself reads from S3 or writes to it; KFP stores its artifacts in any case."""
    mlflow: bool = False
    """Whether the step may log to an MLflow server."""
    survives: bool = False
    """Whether a new pod resumes the step where this one was deleted."""
    cached: bool = True
    """Whether the step's outputs may come from the cache: not if it reads or changes anything outside the run."""


PODS = {
    "preflight": PodSettings(store=True, cached=False),
    "transform": PodSettings(DATA, store=True),
    "train": PodSettings(FROM_ARGUMENTS, gpus=True, store=True, mlflow=True, survives=True),
    "compress": PodSettings(FROM_ARGUMENTS, gpus=True, store=True, survives=True),
    "evaluate": PodSettings(FROM_ARGUMENTS, store=True),
    "deploy": PodSettings(cached=False),
}
"""The pods of the stages that need more than a small pod, or may not be cached."""


def configure(
    task: dsl.PipelineTask, pod: PodSettings, arguments: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    """Configures a step's pod.

    Args:
        task: The step.
        pod: The configuration of its stage's pod.
        arguments: The run's arguments, as the pipeline's function has them.
        found: The outputs of preflight; none for preflight itself.
    """
    # The images' user is not root, but Pod Security `restricted` requires that the pod says so.
    kubernetes.set_security_context(task, run_as_non_root=True)
    if pod.resources:
        _set_resources(task, pod.resources)
    else:
        _set_resources_from_arguments(task, arguments, gpus=pod.gpus)
    if pod.gpus:
        # Both are empty for most runs, and then KFP leaves them out (kubeflow/pipelines 2.17.0,
        # backend/src/v2/driver/k8s.go, extendPodSpecPatch). An argument of the run would be a field of the form.
        kubernetes.add_node_selector_json(task, found["node_selector"])
        kubernetes.add_toleration_json(task, found["toleration"])
    if pod.store:
        # The address and credentials of the store; on a laptop the user's environment has them.
        kubernetes.use_secret_as_env(task, S3_SECRET, S3_ENVIRONMENT, optional=True)
    if pod.mlflow:
        kubernetes.use_secret_as_env(task, MLFLOW_SECRET, MLFLOW_ENVIRONMENT, optional=True)
    if pod.survives:
        _set_retries(task)
    if not pod.cached:
        task.set_caching_options(False)


def _set_resources(task: dsl.PipelineTask, resources: Resources) -> None:
    task.set_cpu_request(resources.cpu_request)
    task.set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory_request)
    task.set_memory_limit(resources.memory_limit)


def _set_resources_from_arguments(
    task: dsl.PipelineTask, arguments: Mapping[str, Any], *, gpus: bool
) -> None:
    """Sets the resources of the run's arguments.

    The number of GPUs may be empty, which requests none (kubeflow/pipelines 2.17.0, backend/src/v2/driver/driver.go,
    initPodSpecPatch). It is a string, because the driver ignores a number there (resolve.go,
    resolvePodSpecInputRuntimeParameter).
    """
    cpu, memory = channels = [arguments["train_cpu"], arguments["train_memory"]]
    _set_resources(task, Resources(MIN_CPU, cpu, MIN_MEMORY, memory))
    if gpus:
        task.set_accelerator_type(GPU)
        task.set_accelerator_limit(arguments["train_gpus"])
        channels.append(arguments["train_gpus"])
    # Without this, a loop around the task lacks these inputs, and its driver fails: as of 2.17, the SDK passes on only
    # the component's own arguments.
    task.register_pipeline_channels(channels)


def _set_retries(task: dsl.PipelineTask) -> None:
    """Lets a training whose pod was deleted continue in another one, from its last checkpoint.

    KFP by default retries only deleted pods (docs/decisions/0020-checkpoints.md): where the training itself dies, the
    step's own process restarts it. The maximum duration counts from the start of the first pod, so KFP's default of an
    hour would end a longer training in its second pod, or would not start that pod.
    """
    task.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="30d")
