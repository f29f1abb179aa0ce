"""Checks that the cluster has everything that a run will need, before any training begins."""

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
from miniml.progress import logger
from miniml.reports.markdown import code, heading, markdown_table, strong
from miniml.resource_names import (
    NAMESPACE,
    PIPELINE_ACCOUNT,
    RUNTIME,
    S3_SECRET,
    SERVING_LABEL,
    make_serving_namespace,
)
from miniml.train_job import sdk

_APPLY_MANIFESTS = "kubectl apply -k manifests/overlays/kind (or your own overlay)"
_JOBSET = "jobset.x-k8s.io/v1alpha2"
S3_ENDPOINT = f"{SERVING_GROUP}/s3-endpoint"
S3_USE_HTTPS = f"{SERVING_GROUP}/s3-usehttps"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    subject: str
    """What was checked."""
    problem: str = ""
    """What is wrong with it; "" if nothing is."""
    remedy: str = ""
    """The command that solves the problem."""
    skipped: str = ""
    """Why it could not be checked; "" if it was."""

    def status(self) -> str:
        """Returns the result in a few words, for a table."""
        if self.problem:
            return strong(self.problem)
        return f"not looked at: {self.skipped}" if self.skipped else "ok"


@dataclass(frozen=True)
class PreflightReport:
    """The results of all checks of a run."""

    results: list[CheckResult] = field(default_factory=list)

    def __add__(self, other: PreflightReport) -> PreflightReport:
        return PreflightReport([*self.results, *other.results])

    def markdown(self) -> str:
        """Returns a table of the results, each with its remedy."""
        if not self.results:
            return f"{heading('Preflight')}\nThis run deploys nothing: no cluster was checked.\n"
        rows = [(result.subject, result.status(), code(result.remedy)) for result in self.results]
        return f"{heading('Preflight')}\n{markdown_table(('checked', 'result', 'remedy'), rows)}"

    def require_all(self) -> None:
        """Checks that there is no problem.

        Raises:
            ClusterError: There are problems; the message names all of them, each with its remedy.
        """
        failed = [result for result in self.results if result.problem]
        if failed:
            lines = [f"  {result.subject}: {result.problem}. {result.remedy}".rstrip() for result in failed]
            raise ClusterError(
                "\n".join([f"the cluster lacks {len(failed)} of what this run needs:", *lines])
            )


def no_checks() -> PreflightReport:
    """Returns the empty report of a run that only renders the service."""
    logger.info("no cluster to deploy to: nothing to check")
    return PreflightReport()


def check_deployment(cluster: Cluster, namespace: str, service_account: str) -> PreflightReport:
    """Checks all that a deployment needs, except for what cannot be right because something else is missing.

    Args:
        cluster: The cluster.
        namespace: The namespace to deploy to.
        service_account: The service account of the predictor's pods.

    Raises:
        ClusterError: The API server does not answer, or does not accept our credentials.
    """
    results = [_api(cluster), _namespace(cluster, namespace)]
    kserve, serving = results
    if not kserve.problem:
        results.append(_runtime(cluster))
    if not serving.problem:
        results += _account_and_secret(cluster, namespace, service_account)
    account = _account_of_steps(cluster)
    # The remedy for a missing namespace also grants our account its rights there, but no other account's.
    if not serving.problem or not _is_ours(account):
        results.append(_rights(cluster, account, namespace, DEPLOY_PERMISSIONS))
    return _with_note(results, f"deploying to {namespace} needs")


def check_training(
    cluster: Cluster, namespace: str, runtime: str, ready_within: tuple[float, float] = (120.0, 5.0)
) -> PreflightReport:
    """Checks all that training on several nodes needs.

    Args:
        cluster: The cluster.
        namespace: The namespace in which the steps of runs are.
        runtime: The name of the training runtime.
        ready_within: How long Trainer may take to be ready, and the time between two requests, in seconds.

    Raises:
        ClusterError: The API server does not answer, or does not accept our credentials.
    """
    results = [_trainer(cluster), _jobset(cluster)]
    if not any(result.problem for result in results):
        results.append(_training_runtime(cluster, namespace, runtime))
    results.append(_rights(cluster, _account_of_steps(cluster), namespace, TRAIN_PERMISSIONS))
    if not any(result.problem for result in results):
        results.append(_trainer_answers(cluster, namespace, runtime, ready_within))
    return _with_note(results, "training on several nodes needs")


def _with_note(results: list[CheckResult], needs: str) -> PreflightReport:
    good = sum(not result.problem for result in results)
    logger.info(f"preflight: {good} of {len(results)} things are as {needs} them")
    return PreflightReport(results)


def _trainer(cluster: Cluster) -> CheckResult:
    subject = "Kubeflow Trainer's TrainJob"
    found = cluster.get(f"/apis/{sdk.API_VERSION}")
    if not found or not any(resource["name"] == "trainjobs" for resource in found["resources"]):
        return CheckResult(subject, "the cluster does not know it", sdk.INSTALL)
    # By default every account may read the version here. Without it, an old version is noticed from the job later.
    public = _get(cluster, f"/api/v1/namespaces/{sdk.SYSTEM_NAMESPACE}/configmaps/kubeflow-trainer-public")
    data = public.get("data") or {} if isinstance(public, dict) else {}
    version = data.get("kubeflow_trainer_version", "")
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < sdk.OLDEST:
        return CheckResult(subject, f"Trainer is {version}", sdk.INSTALL)
    return CheckResult(subject)


def _jobset(cluster: Cluster) -> CheckResult:
    subject = "JobSet, with which Trainer makes the nodes"
    found = cluster.get(f"/apis/{_JOBSET}")
    if not found or not any(resource["name"] == "jobsets" for resource in found["resources"]):
        return CheckResult(subject, "the cluster does not know it", sdk.INSTALL)
    # Trainer's manifests install JobSet here; whether this account may read it is another matter.
    name, namespace = "jobset-controller-manager", sdk.SYSTEM_NAMESPACE
    controller = _get(cluster, f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    if isinstance(controller, dict) and not controller.get("status", {}).get("availableReplicas"):
        return CheckResult(
            subject, "its controller does not run", f"kubectl describe deployment {name} -n {namespace}"
        )
    return CheckResult(subject)


def _trainer_answers(
    cluster: Cluster, namespace: str, runtime: str, ready_within: tuple[float, float]
) -> CheckResult:
    """Checks, by a dry run, that Trainer's webhook admits a TrainJob; while it does not answer, none can be created."""
    subject = "Kubeflow Trainer's webhook"
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
        remedy = f"kubectl get pods -n {sdk.SYSTEM_NAMESPACE}, and read the log of {controller}"
        return CheckResult(subject, str(error).rstrip("."), remedy)
    except ClusterError as error:  # The real job may be admitted all the same.
        return CheckResult(subject, skipped=str(error))
    return CheckResult(subject)


def _training_runtime(cluster: Cluster, namespace: str, name: str) -> CheckResult:
    subject = f"training runtime {name}"
    for found in _runtime_of(cluster, namespace, name):
        if isinstance(found, ForbiddenError):
            return CheckResult(subject, skipped=str(found))
        if found and "torch" not in found["spec"].get("mlPolicy", {}):
            return CheckResult(
                subject, "is not for PyTorch: its mlPolicy has no torch", "Take torch-distributed"
            )
        if found:
            return CheckResult(subject)
    return CheckResult(subject, "there is none of that name (training_runtime)", sdk.LOOK_FOR_RUNTIMES)


def _runtime_of(cluster: Cluster, namespace: str, name: str) -> list[dict[str, Any] | ForbiddenError | None]:
    """Returns the namespace's runtime of that name and the cluster's; the SDK prefers the first."""
    paths = (f"namespaces/{namespace}/trainingruntimes/{name}", f"clustertrainingruntimes/{name}")
    return [_get(cluster, f"/apis/{sdk.API_VERSION}/{path}") for path in paths]


def _api(cluster: Cluster) -> CheckResult:
    subject = "KServe's InferenceService"
    # Every account may read the discovery API, but few may read CRDs.
    found = cluster.get(f"/apis/{API_VERSION}")
    if found and any(resource["name"] == "inferenceservices" for resource in found["resources"]):
        return CheckResult(subject)
    return CheckResult(
        subject, "the cluster does not know it", "Install KServe 0.21: make cluster, or KServe's own guide"
    )


def _runtime(cluster: Cluster) -> CheckResult:
    return _exists(
        cluster,
        f"ClusterServingRuntime {RUNTIME}",
        f"/apis/{SERVING_GROUP}/v1alpha1/clusterservingruntimes/{RUNTIME}",
        f"{_APPLY_MANIFESTS}, in which miniml-serving has the tag {tag()}",
    )


def _namespace(cluster: Cluster, namespace: str) -> CheckResult:
    subject, remedy = f"namespace {namespace}", make_serving_namespace(namespace)
    found = _get(cluster, f"/api/v1/namespaces/{namespace}")
    if not isinstance(found, dict):
        return _not_found(subject, found, remedy)
    if (found["metadata"].get("labels") or {}).get(SERVING_LABEL) != "true":
        return CheckResult(subject, f"has no label {SERVING_LABEL}=true: models are not served there", remedy)
    return CheckResult(subject)


def _account_and_secret(cluster: Cluster, namespace: str, account: str) -> list[CheckResult]:
    subject = f"service account {namespace}/{account}"
    found = _get(cluster, f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}")
    if not isinstance(found, dict):
        return [_not_found(subject, found, _APPLY_MANIFESTS)]
    secrets = [entry["name"] for entry in found.get("secrets") or []]
    if not secrets:
        return [
            CheckResult(
                subject,
                "lists no secret, so the model cannot be read from the store",
                f"kubectl patch serviceaccount {account} -n {namespace} "
                f'-p \'{{"secrets":[{{"name":"{S3_SECRET}"}}]}}\'',
            )
        ]
    return [CheckResult(subject), *_secret(cluster, namespace, secrets[0])]


def _secret(cluster: Cluster, namespace: str, name: str) -> list[CheckResult]:
    subject = f"S3 secret {namespace}/{name}"
    found = _get(cluster, f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if not isinstance(found, dict):
        return [_not_found(subject, found, _make_secret(namespace))]
    annotations = found["metadata"].get("annotations") or {}
    lacking = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} - (found.get("data") or {}).keys()
    if lacking:
        return [CheckResult(subject, f"has no {' and no '.join(sorted(lacking))}", _make_secret(namespace))]
    endpoint = annotations.get(S3_ENDPOINT)
    if not endpoint:
        return [CheckResult(subject)]  # Amazon S3, which is the default.
    scheme = "http" if annotations.get(S3_USE_HTTPS) == "0" else "https"
    return [CheckResult(subject), _store(f"{scheme}://{endpoint}")]


def _make_secret(namespace: str) -> str:
    return f"manifests/s3-secret.sh {namespace} (from KFP's own store), or one of yours in KServe's form"


def _store(address: str) -> CheckResult:
    subject = f"S3 store {address}"
    try:
        # Any answer proves that it runs; without credentials it is a refusal.
        requests.get(address, timeout=5)
    except requests.RequestException as error:
        return CheckResult(
            subject,
            f"does not answer ({type(error).__name__})",
            "kubectl get pods,networkpolicies -n " + NAMESPACE,
        )
    return CheckResult(subject)


def _account_of_steps(cluster: Cluster) -> str:
    """Returns the account that this process runs under, as namespace/name, or a phrase if the cluster does not say."""
    return cluster.user().removeprefix("system:serviceaccount:").replace(":", "/") or "the steps' account"


def _is_ours(account: str) -> bool:
    return account.rpartition("/")[2] == PIPELINE_ACCOUNT


def _rights(
    cluster: Cluster, account: str, namespace: str, permissions: tuple[Permission, ...]
) -> CheckResult:
    """Checks all permissions at once, since one remedy grants all of them."""
    refused = [str(each) for each in permissions if not cluster.allows(each, namespace)]
    subject = f"rights of {account} in {namespace}"
    return (
        CheckResult(subject, f"it may not {', '.join(refused)}", _grant(account, namespace))
        if refused
        else CheckResult(subject)
    )


def _grant(account: str, namespace: str) -> str:
    if not _is_ours(account):
        return (
            f"Start the run with service account {PIPELINE_ACCOUNT}: `submit` does; in the UI, fill the field Service "
            f"Account of Create run, after Clone run too"
        )
    return (
        f"kubectl create rolebinding {PIPELINE_ACCOUNT} -n {namespace} --clusterrole={PIPELINE_ACCOUNT} "
        f"--serviceaccount={NAMESPACE}:{PIPELINE_ACCOUNT}"
    )


def _exists(cluster: Cluster, subject: str, path: str, remedy: str) -> CheckResult:
    found = _get(cluster, path)
    return CheckResult(subject) if isinstance(found, dict) else _not_found(subject, found, remedy)


def _get(cluster: Cluster, path: str) -> dict[str, Any] | ForbiddenError | None:
    """Returns the object, None if there is none, or the error if this account may not read it."""
    try:
        return cluster.get(path)
    except ForbiddenError as error:
        return error


def _not_found(subject: str, found: ForbiddenError | None, remedy: str) -> CheckResult:
    """Returns the problem of an object that is missing; one that this account may not read is no problem."""
    return (
        CheckResult(subject, "missing", remedy) if found is None else CheckResult(subject, skipped=str(found))
    )
