"""Looks on the cluster for everything that a run will need, before any training begins."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import requests

from miniml.cluster.api import (
    DEPLOY_PERMISSIONS,
    TRAIN_PERMISSIONS,
    Cluster,
    ForbiddenError,
    Permission,
    UnreachableError,
)
from miniml.cluster.inference_service import API_VERSION, SERVING_GROUP
from miniml.errors import ClusterError
from miniml.images import tag
from miniml.progress import note
from miniml.reports.markdown import code, heading, strong, table
from miniml.resource_names import (
    NAMESPACE,
    PIPELINE_ACCOUNT,
    RUNTIME,
    S3_SECRET,
    SERVING_LABEL,
    make_serving_namespace,
)
from miniml.train_job import sdk

INSTALL = "kubectl apply -k manifests/overlays/kind (or your own overlay)"
_JOBSET = "jobset.x-k8s.io/v1alpha2"
S3_ENDPOINT = f"{SERVING_GROUP}/s3-endpoint"
S3_USE_HTTPS = f"{SERVING_GROUP}/s3-usehttps"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for."""

    what: str
    missing: str = ""
    """What is wrong with it; empty where nothing is."""
    remedy: str = ""
    """The command that mends it."""
    unseen: str = ""
    """Why it could not be looked at, if so."""

    def found(self) -> str:
        """In a word or two, for a table."""
        if self.missing:
            return strong(self.missing)
        return f"not looked at: {self.unseen}" if self.unseen else "ok"


@dataclass(frozen=True)
class Findings:
    """All that was looked for, and what came of it."""

    entries: list[Finding] = field(default_factory=list)

    def __add__(self, other: Findings) -> Findings:
        return Findings([*self.entries, *other.entries])

    def markdown(self) -> str:
        if not self.entries:
            return f"{heading('Preflight')}\nThis run deploys nothing: no cluster was looked at.\n"
        rows = [(entry.what, entry.found(), code(entry.remedy)) for entry in self.entries]
        return f"{heading('Preflight')}\n{table(('looked for', 'found', 'remedy'), rows)}"

    def require_all(self) -> None:
        """Raises ClusterError that names everything that is missing, each with its remedy."""
        missing = [entry for entry in self.entries if entry.missing]
        if missing:
            lines = [f"  {entry.what}: {entry.missing}. {entry.remedy}".rstrip() for entry in missing]
            raise ClusterError(
                "\n".join([f"the cluster lacks {len(missing)} of what this run needs:", *lines])
            )


def nothing_to_deploy_to() -> Findings:
    """For a run that only renders."""
    note("no cluster to deploy to: nothing to look for")
    return Findings()


def inspect(cluster: Cluster, namespace: str, service_account: str) -> Findings:
    """Looks for each thing, and tells at once all that is missing, but for what is missing because something else is.

    Raises:
        ClusterError: the API server does not answer, or does not know us.
    """
    entries = [_api(cluster), _namespace(cluster, namespace)]
    kserve, serving = entries
    if not kserve.missing:
        entries.append(_runtime(cluster))
    if not serving.missing:
        entries += _account_and_secret(cluster, namespace, service_account)
    account = _account_of_steps(cluster)
    # What makes the namespace gives our account its rights there; to another account it gives none.
    if not serving.missing or not _is_ours(account):
        entries.append(_rights(cluster, account, namespace, DEPLOY_PERMISSIONS))
    return _noted(entries, f"deploying to {namespace} needs")


def inspect_training(
    cluster: Cluster, namespace: str, runtime: str, ready_within: tuple[float, float] = (120.0, 5.0)
) -> Findings:
    """Looks for what training on several nodes needs, in the namespace where the steps of runs are.

    `ready_within` are the seconds that Trainer may take to be ready, and those between two looks.

    Raises:
        ClusterError: the API server does not answer, or does not know us.
    """
    entries = [_trainer(cluster), _jobset(cluster)]
    if not any(entry.missing for entry in entries):
        entries.append(_training_runtime(cluster, namespace, runtime))
    entries.append(_rights(cluster, _account_of_steps(cluster), namespace, TRAIN_PERMISSIONS))
    if not any(entry.missing for entry in entries):
        entries.append(_trainer_answers(cluster, namespace, runtime, ready_within))
    return _noted(entries, "training on several nodes needs")


def _noted(entries: list[Finding], needs: str) -> Findings:
    good = sum(not entry.missing for entry in entries)
    note(f"preflight: {good} of {len(entries)} things are as {needs} them")
    return Findings(entries)


def _trainer(cluster: Cluster) -> Finding:
    what = "Kubeflow Trainer's TrainJob"
    found = cluster.get(f"/apis/{sdk.API_VERSION}")
    if not found or not any(resource["name"] == "trainjobs" for resource in found["resources"]):
        return Finding(what, "the cluster does not know it", sdk.INSTALL)
    # Where it tells its version, by default readable by everybody; elsewhere the job itself is looked at later.
    told = _get(cluster, f"/api/v1/namespaces/{sdk.SYSTEM_NAMESPACE}/configmaps/kubeflow-trainer-public")
    version = (told.get("data") or {}).get("kubeflow_trainer_version", "") if isinstance(told, dict) else ""
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < sdk.OLDEST:
        return Finding(what, f"Trainer is {version}", sdk.INSTALL)
    return Finding(what)


def _jobset(cluster: Cluster) -> Finding:
    what = "JobSet, of which Trainer makes the nodes"
    found = cluster.get(f"/apis/{_JOBSET}")
    if not found or not any(resource["name"] == "jobsets" for resource in found["resources"]):
        return Finding(what, "the cluster does not know it", sdk.INSTALL)
    # Where Trainer's manifests put it, if this account may look.
    name, namespace = "jobset-controller-manager", sdk.SYSTEM_NAMESPACE
    controller = _get(cluster, f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    if isinstance(controller, dict) and not controller.get("status", {}).get("availableReplicas"):
        return Finding(
            what, "its controller does not run", f"kubectl describe deployment {name} -n {namespace}"
        )
    return Finding(what)


def _trainer_answers(
    cluster: Cluster, namespace: str, runtime: str, ready_within: tuple[float, float]
) -> Finding:
    """Whether Trainer's webhook takes a TrainJob, for without it no one can be made. Nothing is: the run is dry."""
    what = "Kubeflow Trainer's webhook"
    own = isinstance(_runtime_of(cluster, namespace, runtime)[0], dict)
    kind = "TrainingRuntime" if own else "ClusterTrainingRuntime"
    job = {
        "apiVersion": sdk.API_VERSION,
        "kind": "TrainJob",
        "metadata": {"name": "miniml-preflight", "namespace": namespace},
        "spec": {"runtimeRef": {"kind": kind, "name": runtime}},
    }
    path = f"/apis/{sdk.API_VERSION}/namespaces/{namespace}/trainjobs"
    try:
        sdk.once_ready(lambda: cluster.try_to_create(path, job), *ready_within)
    except UnreachableError as error:
        controller = "kubeflow-trainer-controller-manager"
        remedy = f"kubectl get pods -n {sdk.SYSTEM_NAMESPACE}, and look at what {controller} says"
        return Finding(what, str(error).rstrip("."), remedy)
    except ClusterError as error:  # The job that will be made may fare better.
        return Finding(what, unseen=str(error))
    return Finding(what)


def _training_runtime(cluster: Cluster, namespace: str, name: str) -> Finding:
    what = f"training runtime {name}"
    for found in _runtime_of(cluster, namespace, name):
        if isinstance(found, ForbiddenError):
            return Finding(what, unseen=str(found))
        if found and "torch" not in found["spec"].get("mlPolicy", {}):
            return Finding(what, "is not for PyTorch: its mlPolicy has no torch", "Take torch-distributed")
        if found:
            return Finding(what)
    return Finding(what, "there is none of that name (training_runtime)", sdk.LOOK_FOR_RUNTIMES)


def _runtime_of(cluster: Cluster, namespace: str, name: str) -> list[dict[str, Any] | ForbiddenError | None]:
    """The one of the namespace and the one of the cluster: as the SDK has it, the first goes before the second."""
    paths = (f"namespaces/{namespace}/trainingruntimes/{name}", f"clustertrainingruntimes/{name}")
    return [_get(cluster, f"/apis/{sdk.API_VERSION}/{path}") for path in paths]


def _api(cluster: Cluster) -> Finding:
    what = "KServe's InferenceService"
    # Discovery, which every account may ask, instead of the CRD, which few may read.
    found = cluster.get(f"/apis/{API_VERSION}")
    if found and any(resource["name"] == "inferenceservices" for resource in found["resources"]):
        return Finding(what)
    return Finding(
        what, "the cluster does not know it", "Install KServe 0.21: make cluster, or KServe's own guide"
    )


def _runtime(cluster: Cluster) -> Finding:
    return _exists(
        cluster,
        f"ClusterServingRuntime {RUNTIME}",
        f"/apis/{SERVING_GROUP}/v1alpha1/clusterservingruntimes/{RUNTIME}",
        f"{INSTALL}, in which miniml-serving has the tag {tag()}",
    )


def _namespace(cluster: Cluster, namespace: str) -> Finding:
    what, remedy = f"namespace {namespace}", make_serving_namespace(namespace)
    found = _get(cluster, f"/api/v1/namespaces/{namespace}")
    if not isinstance(found, dict):
        return _not_found(what, found, remedy)
    if (found["metadata"].get("labels") or {}).get(SERVING_LABEL) != "true":
        return Finding(what, f"has no label {SERVING_LABEL}=true: models are not served there", remedy)
    return Finding(what)


def _account_and_secret(cluster: Cluster, namespace: str, account: str) -> list[Finding]:
    what = f"service account {namespace}/{account}"
    found = _get(cluster, f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}")
    if not isinstance(found, dict):
        return [_not_found(what, found, INSTALL)]
    secrets = [entry["name"] for entry in found.get("secrets") or []]
    if not secrets:
        return [
            Finding(
                what,
                "lists no secret, so the model cannot be read from the store",
                f"kubectl patch serviceaccount {account} -n {namespace} "
                f'-p \'{{"secrets":[{{"name":"{S3_SECRET}"}}]}}\'',
            )
        ]
    return [Finding(what), *_secret(cluster, namespace, secrets[0])]


def _secret(cluster: Cluster, namespace: str, name: str) -> list[Finding]:
    what = f"S3 secret {namespace}/{name}"
    found = _get(cluster, f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if not isinstance(found, dict):
        return [_not_found(what, found, _make_secret(namespace))]
    annotations = found["metadata"].get("annotations") or {}
    lacking = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} - (found.get("data") or {}).keys()
    if lacking:
        return [Finding(what, f"has no {' and no '.join(sorted(lacking))}", _make_secret(namespace))]
    endpoint = annotations.get(S3_ENDPOINT)
    if not endpoint:
        return [Finding(what)]  # Amazon's own S3, whose address needs no telling.
    scheme = "http" if annotations.get(S3_USE_HTTPS) == "0" else "https"
    return [Finding(what), _store(f"{scheme}://{endpoint}")]


def _make_secret(namespace: str) -> str:
    return f"manifests/s3-secret.sh {namespace} (from KFP's own store), or one of yours in KServe's form"


def _store(address: str) -> Finding:
    what = f"S3 store {address}"
    try:
        requests.get(address, timeout=5)  # Any answer will do: without credentials it is a refusal.
    except requests.RequestException as error:
        return Finding(
            what,
            f"does not answer ({type(error).__name__})",
            "kubectl get pods,networkpolicies -n " + NAMESPACE,
        )
    return Finding(what)


def _account_of_steps(cluster: Cluster) -> str:
    """The account that this runs under, as namespace/name; or words for it, where the cluster does not tell."""
    return cluster.user().removeprefix("system:serviceaccount:").replace(":", "/") or "the steps' account"


def _is_ours(account: str) -> bool:
    return account.rpartition("/")[2] == PIPELINE_ACCOUNT


def _rights(cluster: Cluster, account: str, namespace: str, permissions: tuple[Permission, ...]) -> Finding:
    """What the account may do, in one entry: one remedy gives it all."""
    refused = [str(each) for each in permissions if not cluster.allows(each, namespace)]
    what = f"rights of {account} in {namespace}"
    return (
        Finding(what, f"it may not {', '.join(refused)}", _grant(account, namespace))
        if refused
        else Finding(what)
    )


def _grant(account: str, namespace: str) -> str:
    if not _is_ours(account):
        return (
            f"Start the run with service account {PIPELINE_ACCOUNT}: `submit` does; in the UI, Create run has a field "
            f"Service Account, which is to be filled, after Clone run too"
        )
    return (
        f"kubectl create rolebinding {PIPELINE_ACCOUNT} -n {namespace} --clusterrole={PIPELINE_ACCOUNT} "
        f"--serviceaccount={NAMESPACE}:{PIPELINE_ACCOUNT}"
    )


def _exists(cluster: Cluster, what: str, path: str, remedy: str) -> Finding:
    found = _get(cluster, path)
    return Finding(what) if isinstance(found, dict) else _not_found(what, found, remedy)


def _get(cluster: Cluster, path: str) -> dict[str, Any] | ForbiddenError | None:
    """The object; None where there is none; the refusal where this account may not look."""
    try:
        return cluster.get(path)
    except ForbiddenError as error:
        return error


def _not_found(what: str, found: ForbiddenError | None, remedy: str) -> Finding:
    """Whatever this account may not look at may well be there: that is told, and does not stop the run."""
    return Finding(what, "missing", remedy) if found is None else Finding(what, unseen=str(found))
