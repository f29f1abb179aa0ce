"""Creates a TrainJob with Kubeflow's SDK, and explains its errors."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from miniml import __version__
from miniml.cluster.api import (
    TRAINER_GROUP,
    Cluster,
    ConflictError,
    NotFoundError,
    UnreachableError,
    in_pod,
    own_namespace,
)
from miniml.cluster.pods import Pod
from miniml.errors import ClusterError, InputError
from miniml.exit_status import TERMINATION_LOG
from miniml.progress import logger
from miniml.resource_names import GPU, GPU_TOLERATION, MANAGED_BY, S3_SECRET
from miniml.settings.nodes import NodeSettings

API_VERSION = f"{TRAINER_GROUP}/v1alpha1"
OLDEST = (2, 3)
"""The first version of Trainer that has runtimePatches."""
OLDEST_VERSION = ".".join(map(str, OLDEST))
_MANIFESTS = "kubectl apply --server-side -k 'https://github.com/kubeflow/trainer.git/manifests/overlays"
INSTALL = f"Install Kubeflow Trainer {OLDEST_VERSION} or newer: {_MANIFESTS}/manager?ref=v{OLDEST_VERSION}.0'"
LOOK_FOR_RUNTIMES = (
    f"Take one that there is: kubectl get clustertrainingruntimes. torch-distributed comes by: "
    f"{_MANIFESTS}/runtimes?ref=v{OLDEST_VERSION}.0'"
)
SYSTEM_NAMESPACE = "kubeflow-system"
"""The namespace in which these manifests install Trainer and JobSet."""
MODEL = "miniml/model"
"""The annotation with the address to which the nodes write the model; a retried step may have another one."""
NODE = "node"
"""Trainer's name of the job that trains, and of its container."""

_NO_WEBHOOK = "failed calling webhook"
"""Part of the API server's message, with status 500 (k8s.io/apiserver, admission/plugin/webhook/errors)."""
_SECRET = f"/run/secrets/{S3_SECRET}"
_TERMINATION_LOG = "/dev/termination-log"
"""The default terminationMessagePath, whose content Kubernetes shows in the pod's status."""
_INHERITED_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_REGION")
"""The environment variables of the step with which the nodes find the store."""


def require_pod() -> None:
    """Checks that this process runs in a pod, since only a cluster has several nodes.

    Raises:
        InputError: it does not.
    """
    if not in_pod():
        raise InputError(
            "num_nodes is above 1, and this is no pod of a cluster. Submit the pipeline to one that has Kubeflow "
            "Trainer, or leave num_nodes at 1; to share the work of one machine among processes, start them: "
            "torchrun --nproc-per-node 2 -m miniml.train_step DATASET MODEL."
        )


@dataclass(frozen=True)
class Step:
    """The container of the train step; the nodes get its image and its settings."""

    namespace: str
    pod: str
    container: str

    @classmethod
    def in_this_pod(cls, pod: str, container: str) -> Step:
        """Returns the step that this process runs in.

        Args:
            pod: The name of the pod.
            container: The name of the container.

        Raises:
            InputError: this is no pod of a cluster.
        """
        require_pod()
        return cls(own_namespace(), pod, container)


@dataclass(frozen=True)
class TrainJobRequest:
    """The TrainJob to create."""

    name: str
    words: list[str]
    """The arguments of `python -m miniml.train_step`."""
    num_nodes: int
    nodes: NodeSettings
    model: str
    """The address to which the nodes write the model."""


def job_path(namespace: str, name: str) -> str:
    """Returns the path of a TrainJob in the Kubernetes API."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/trainjobs/{name}"


def own_pod(cluster: Cluster, step: Step) -> Pod:
    """Returns the pod of the step from the Kubernetes API.

    Raises:
        ClusterError: there is no such pod, or the API server refuses or does not answer.
    """
    pod = cluster.get(f"/api/v1/namespaces/{step.namespace}/pods/{step.pod}")
    if pod is None:
        raise ClusterError(f"there is no pod {step.namespace}/{step.pod}, in which this step should run.")
    return pod


def owners(pod: Pod) -> list[dict[str, str]]:
    """Returns the pod's controller as an owner reference: in a run, the workflow, which all retries of a step share."""
    return [
        {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}
        for owner in pod["metadata"].get("ownerReferences") or []
        if owner.get("controller")
    ]


def once_ready(ask: Callable[[], None], seconds: float, between: float) -> None:
    """Calls `ask`, and retries it while Trainer's webhook does not answer.

    The webhook answers about 90 s after Trainer was started, and not while its only pod is rescheduled.

    Args:
        ask: Sends the request.
        seconds: For how long to retry.
        between: Seconds between two attempts.

    Raises:
        UnreachableError: the webhook did not answer in time, or the API server is out of reach.
    """
    begun, reported = time.monotonic(), False
    while True:
        try:
            ask()
            return
        except UnreachableError as error:
            if _NO_WEBHOOK not in str(error):
                raise
            if time.monotonic() - begun > seconds:
                raise UnreachableError(
                    f"Kubeflow Trainer is not ready after {seconds:g} s: {error}"
                ) from error
            if not reported:
                logger.info(
                    f"Kubeflow Trainer is not ready yet, waiting for it for up to {seconds:g} s: {error}"
                )
                reported = True
        time.sleep(between)


def submit(
    cluster: Cluster, request: TrainJobRequest, pod: Pod, container: str, ready_within: tuple[float, float]
) -> None:
    """Creates the TrainJob, unless an earlier attempt has created it.

    Args:
        cluster: The cluster.
        request: The job.
        pod: The pod of the step, whose owner becomes the owner of the job.
        container: The container of the pod whose image the nodes run.
        ready_within: Seconds to wait for Trainer to be ready, and seconds between two attempts.

    Raises:
        InputError: the runtime is not one for PyTorch.
        ClusterError: Kubeflow Trainer or the runtime is not installed, or the job is refused.
    """
    image = next(each["image"] for each in pod["spec"]["containers"] if each["name"] == container)
    namespace = pod["metadata"]["namespace"]
    logger.info(f"TrainJob {namespace}/{request.name}: {request.num_nodes} nodes of {image}")
    path = job_path(namespace, request.name)
    try:
        once_ready(
            lambda: cluster.retried(lambda: _train(cluster, request, pod, image), "POST", path), *ready_within
        )
    except ConflictError:
        logger.info("it exists already")  # An attempt that seemed to fail has created it.
    except NotFoundError as error:
        raise _not_installed(cluster, request.nodes.training_runtime) from error
    except ValueError as error:
        raise InputError(
            f"training_runtime {request.nodes.training_runtime!r} cannot be used: {error}. Set it to torch-distributed."
        ) from error
    _set_owner(cluster, path, request, pod)


def _train(cluster: Cluster, request: TrainJobRequest, pod: Pod, image: str) -> None:
    # Only here: a training on one machine has no use for it, and it takes a second to import.
    from kubeflow.trainer import CustomTrainerContainer, KubernetesBackendConfig, TrainerClient, options

    # It would warn if Trainer's namespace has another name.
    logging.getLogger("kubeflow").setLevel(logging.ERROR)
    nodes = request.nodes
    labels = {**MANAGED_BY, "app.kubernetes.io/version": __version__}
    # The number of processes is an argument, as the SDK cannot set numProcPerNode, whose default is one per processor.
    command = ["python", "-m", "miniml.train_job.node", str(nodes.processes_per_node)]
    backend = KubernetesBackendConfig(
        namespace=pod["metadata"]["namespace"], client_configuration=cluster.configuration
    )
    try:
        TrainerClient(backend).train(
            runtime=nodes.training_runtime,
            trainer=CustomTrainerContainer(
                image=image,
                num_nodes=request.num_nodes,
                resources_per_node=nodes.resources,
                env=_environment(),
            ),
            options=[
                options.Name(request.name),
                options.Labels(labels),
                options.Annotations({MODEL: request.model}),
                options.TrainerCommand(command),
                options.TrainerArgs(request.words),
                options.ActiveDeadlineSeconds(nodes.training_timeout),
                _pods_like(pod, nodes),
            ],
        )
    except RuntimeError as error:  # Only its cause says why it failed.
        cause = error.__cause__
        if isinstance(cause, ApiException | HTTPError | OSError):
            raise cause from error
        raise ClusterError(f"Kubeflow's SDK cannot make the TrainJob: {error} ({cause})") from error


def _environment() -> dict[str, str]:
    from miniml.store.credentials import SECRET_FOLDER  # Only here: it brings in the S3 client.

    variables = {name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ}
    variables[TERMINATION_LOG] = _TERMINATION_LOG
    return {**variables, SECRET_FOLDER: _SECRET} if _has_secret() else variables


def _has_secret() -> bool:
    """Tells whether this step has the store's keys from our secret; otherwise the platform may provide them."""
    return "AWS_ACCESS_KEY_ID" in os.environ


def _pods_like(pod: Pod, nodes: NodeSettings) -> Any:
    """Returns the patch with which the runtime's pods run like the step's, on the nodes that the settings name.

    The store's keys are mounted from the secret: Trainer refuses variables in a patch of this container, and the SDK
    supports variables only by value, so that everybody could read the keys in the job.
    """
    from kubeflow.trainer import options

    # PyTorch's processes exchange tensors in shared memory, of which a container has 64 MiB by default.
    volumes: list[dict[str, Any]] = [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}]
    mounts: list[dict[str, Any]] = [{"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108
    if _has_secret():
        volumes.append({"name": "store", "secret": {"secretName": S3_SECRET}})
        mounts.append({"name": "store", "mountPath": _SECRET, "readOnly": True})
    security = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = options.PodSpecPatch(
        volumes=volumes,
        image_pull_secrets=pod["spec"].get("imagePullSecrets"),
        node_selector=nodes.node_labels or None,
        tolerations=[GPU_TOLERATION] if GPU in nodes.resources else None,
        containers=[options.ContainerPatch(NODE, volume_mounts=mounts, security_context=security)],
    )
    # A sidecar of Istio would not end with the training; KFP disables it for its own pods too.
    template = options.PodTemplatePatch(
        metadata={"annotations": {"sidecar.istio.io/inject": "false"}}, spec=spec
    )
    job = options.JobTemplatePatch(spec=options.JobSpecPatch(template=template))
    jobs = options.JobSetSpecPatch(replicated_jobs=[options.ReplicatedJobPatch(NODE, job)])
    return options.RuntimePatch(
        options.TrainingRuntimeSpecPatch(template=options.JobSetTemplatePatch(spec=jobs))
    )


def _set_owner(cluster: Cluster, path: str, request: TrainJobRequest, pod: Pod) -> None:
    """Makes the owner of the step's pod the owner of the job, so that deleting the run deletes the job."""
    if found := owners(pod):
        namespace = pod["metadata"]["namespace"]
        metadata = {"name": request.name, "namespace": namespace, "ownerReferences": found}
        cluster.apply_at(path, {"apiVersion": API_VERSION, "kind": "TrainJob", "metadata": metadata})


def _not_installed(cluster: Cluster, runtime: str) -> ClusterError:
    if cluster.get(f"/apis/{API_VERSION}") is None:
        return ClusterError(f"the cluster does not know TrainJobs, which num_nodes above 1 needs. {INSTALL}.")
    return ClusterError(
        f"the cluster has no training runtime {runtime!r} (training_runtime). {LOOK_FOR_RUNTIMES}."
    )
