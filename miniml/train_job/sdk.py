"""Makes the TrainJob through Kubeflow's SDK, and says in our words why it cannot."""

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
from miniml.progress import note
from miniml.resource_names import MANAGED_BY, S3_SECRET
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
"""Where these manifests put Trainer and JobSet."""
MODEL = "miniml/model"
"""Annotation: where the nodes put the model. A retried step may itself have been told another place."""
NODE = "node"
"""Trainer's word for the job that trains, and for the container in it."""

_NO_WEBHOOK = "failed calling webhook"
"""What the API server says then, with status 500 (k8s.io/apiserver, admission/plugin/webhook/errors)."""
_SECRET = f"/run/secrets/{S3_SECRET}"
_TERMINATION_LOG = "/dev/termination-log"
"""What Kubernetes calls it, if nobody says otherwise (terminationMessagePath), and shows in the pod's status."""
_HANDED_ON = ("AWS_ENDPOINT_URL", "AWS_REGION")
"""What of the step's environment the nodes need to find the store."""


def require_pod() -> None:
    """
    Raises:
        InputError: this is no pod of a cluster, and several nodes are what it is asked for.
    """
    if not in_pod():
        raise InputError(
            "num_nodes is above 1, and this is no pod of a cluster. Submit the pipeline to one that has Kubeflow "
            "Trainer, or leave num_nodes at 1; to share the work of one machine among processes, start them: "
            "torchrun --nproc-per-node 2 -m miniml.train_step DATASET MODEL."
        )


@dataclass(frozen=True)
class Step:
    """The container that asks for the training, which the nodes are made like."""

    namespace: str
    pod: str
    container: str

    @classmethod
    def in_this_pod(cls, pod: str, container: str) -> Step:
        """
        Raises:
            InputError: this is no pod of a cluster.
        """
        require_pod()
        return cls(own_namespace(), pod, container)


@dataclass(frozen=True)
class Request:
    """A TrainJob to be made."""

    name: str
    words: list[str]
    """The command line of `python -m miniml.train_step`."""
    num_nodes: int
    nodes: NodeSettings
    model: str
    """Where the nodes are told to put the model."""


def job_path(namespace: str, name: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/trainjobs/{name}"


def own_pod(cluster: Cluster, step: Step) -> Pod:
    """The pod of the step, as the API server has it."""
    pod = cluster.get(f"/api/v1/namespaces/{step.namespace}/pods/{step.pod}")
    if pod is None:
        raise ClusterError(f"there is no pod {step.namespace}/{step.pod}, which this is said to run in.")
    return pod


def owners(pod: Pod) -> list[dict[str, str]]:
    """What made the pod: in a run, the workflow, which stays the same when a step is tried again."""
    return [
        {key: owner[key] for key in ("apiVersion", "kind", "name", "uid")}
        for owner in pod["metadata"].get("ownerReferences") or []
        if owner.get("controller")
    ]


def once_ready(ask: Callable[[], None], seconds: float, between: float) -> None:
    """Does `ask`, again and again for so many `seconds` while Trainer's webhook does not answer.

    It refuses every TrainJob until then: for some 90 s after Trainer was started, and while its one pod moves.

    Raises:
        UnreachableError: it did not answer in time.
    """
    begun, told = time.monotonic(), False
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
            if not told:
                note(f"Kubeflow Trainer is not ready yet, waiting for it for up to {seconds:g} s: {error}")
                told = True
        time.sleep(between)


def submit(
    cluster: Cluster, request: Request, pod: Pod, container: str, ready_within: tuple[float, float]
) -> None:
    """Makes the TrainJob, its nodes like that container of the pod; that it is there already is as good.

    `ready_within` are the seconds that Trainer may take to be ready, and those between two looks.

    Raises:
        InputError: the runtime is not one for PyTorch.
        ClusterError: Kubeflow Trainer or the runtime is not there, or the job is refused.
    """
    image = next(each["image"] for each in pod["spec"]["containers"] if each["name"] == container)
    namespace = pod["metadata"]["namespace"]
    note(f"TrainJob {namespace}/{request.name}: {request.num_nodes} nodes of {image}")
    path = job_path(namespace, request.name)
    try:
        once_ready(
            lambda: cluster.retried(lambda: _train(cluster, request, pod, image), "POST", path), *ready_within
        )
    except ConflictError:
        note("it is there already")  # A try that seemed to have failed.
    except NotFoundError as error:
        raise _absent(cluster, request.nodes.training_runtime) from error
    except ValueError as error:
        raise InputError(
            f"training_runtime {request.nodes.training_runtime!r} is not for this: {error}. Take torch-distributed."
        ) from error
    _give_owner(cluster, path, request, pod)


def _train(cluster: Cluster, request: Request, pod: Pod, image: str) -> None:
    # Only here: a training on one machine has no use for it, and it takes a second to import.
    from kubeflow.trainer import CustomTrainerContainer, KubernetesBackendConfig, TrainerClient, options

    # It warns where Trainer is in a namespace of another name.
    logging.getLogger("kubeflow").setLevel(logging.ERROR)
    nodes = request.nodes
    labels = {**MANAGED_BY, "app.kubernetes.io/version": __version__}
    # Said here, for the SDK cannot set numProcPerNode, and Trainer's own guess is one for each processor.
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
                _pods_like(pod),
            ],
        )
    except RuntimeError as error:  # It says that it failed; its cause says why.
        cause = error.__cause__
        if isinstance(cause, ApiException | HTTPError | OSError):
            raise cause from error
        raise ClusterError(f"Kubeflow's SDK cannot make the TrainJob: {error} ({cause})") from error


def _environment() -> dict[str, str]:
    from miniml.store.credentials import SECRET_FOLDER  # Only here: it brings in the S3 client.

    found = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    found[TERMINATION_LOG] = _TERMINATION_LOG
    return {**found, SECRET_FOLDER: _SECRET} if _has_secret() else found


def _has_secret() -> bool:
    """Whether this step was given the store's keys from our secret; without, the platform gives them, or nobody."""
    return "AWS_ACCESS_KEY_ID" in os.environ


def _pods_like(pod: Pod) -> Any:
    """What the runtime's pods need beside the image to do as the step's does.

    The keys are mounted: Trainer refuses variables in a patch of this container, and the SDK knows variables only by
    their value, which would stand in the job for all to read.
    """
    from kubeflow.trainer import options

    # PyTorch's processes hand each other tensors in there, and a container has 64 MiB of it.
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
        containers=[options.ContainerPatch(NODE, volume_mounts=mounts, security_context=security)],
    )
    # As KFP's own: a mesh's proxy would not end with the training.
    template = options.PodTemplatePatch(
        metadata={"annotations": {"sidecar.istio.io/inject": "false"}}, spec=spec
    )
    job = options.JobTemplatePatch(spec=options.JobSpecPatch(template=template))
    jobs = options.JobSetSpecPatch(replicated_jobs=[options.ReplicatedJobPatch(NODE, job)])
    return options.RuntimePatch(
        options.TrainingRuntimeSpecPatch(template=options.JobSetTemplatePatch(spec=jobs))
    )


def _give_owner(cluster: Cluster, path: str, request: Request, pod: Pod) -> None:
    """What owns the step's pod owns the job too, and takes it along when the run is deleted."""
    if found := owners(pod):
        namespace = pod["metadata"]["namespace"]
        metadata = {"name": request.name, "namespace": namespace, "ownerReferences": found}
        cluster.apply_at(path, {"apiVersion": API_VERSION, "kind": "TrainJob", "metadata": metadata})


def _absent(cluster: Cluster, runtime: str) -> ClusterError:
    if cluster.get(f"/apis/{API_VERSION}") is None:
        return ClusterError(f"the cluster does not know TrainJobs, which num_nodes above 1 takes. {INSTALL}.")
    return ClusterError(
        f"the cluster has no training runtime {runtime!r} (training_runtime). {LOOK_FOR_RUNTIMES}."
    )
