"""Preflight names everything that deploying would lack, and the command that mends it, before any training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniml import __version__
from miniml.cluster.api import Cluster
from miniml.errors import ClusterError
from miniml.preflight.cluster_checks import check_deployment, check_training, no_checks
from miniml.resource_names import PIPELINE_ACCOUNT, PREDICTOR_ACCOUNT, RUNTIME, S3_SECRET, SERVING_LABEL
from miniml.train_job.sdk import API_VERSION
from tests.kubernetes_server import KubernetesServer
from tests.rendered import Rendered
from tests.trainer_server import TrainerServer

DISCOVERY = "/apis/serving.kserve.io/v1beta1"
RUNTIME_PATH = f"/apis/serving.kserve.io/v1alpha1/clusterservingruntimes/{RUNTIME}"
NAMESPACE = "/api/v1/namespaces/models"
ACCOUNT = f"{NAMESPACE}/serviceaccounts/{PREDICTOR_ACCOUNT}"
SECRET = f"{NAMESPACE}/secrets/{S3_SECRET}"


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    """A cluster that has all it takes; its store is the server itself, for any answer will do."""
    with KubernetesServer(lambda text: {}) as running:
        running.objects = {
            DISCOVERY: {"resources": [{"name": "inferenceservices"}]},
            RUNTIME_PATH: {},
            NAMESPACE: {"metadata": {"name": "models", "labels": {SERVING_LABEL: "true"}}},
            ACCOUNT: {"secrets": [{"name": S3_SECRET}]},
            SECRET: {
                "metadata": {
                    "annotations": {
                        "serving.kserve.io/s3-endpoint": running.url.removeprefix("http://"),
                        "serving.kserve.io/s3-usehttps": "0",
                    }
                },
                "data": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
            },
        }
        running.objects = {path: {"metadata": {}, **value} for path, value in running.objects.items()}
        yield running


@pytest.fixture
def cluster(server: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
    return Cluster.connect(retry_after=(0.01,))


def test_a_complete_cluster_passes(cluster: Cluster) -> None:
    findings = check_deployment(cluster, "models", PREDICTOR_ACCOUNT)
    findings.require_all()
    assert "**" not in findings.markdown()


@pytest.mark.parametrize(
    ("path", "named", "remedy"),
    [
        (DISCOVERY, "InferenceService: the cluster does not know it", "Install KServe"),
        (
            RUNTIME_PATH,
            f"ClusterServingRuntime {RUNTIME}: missing",
            f"miniml-serving has the tag {__version__}",
        ),
        (NAMESPACE, "namespace models: missing", "manifests/serving-namespace.sh models"),
        (ACCOUNT, f"service account models/{PREDICTOR_ACCOUNT}: missing", "kubectl apply -k"),
        (SECRET, f"S3 secret models/{S3_SECRET}: missing", "manifests/s3-secret.sh models"),
    ],
)
def test_each_missing_thing_is_named_with_its_remedy(
    server: KubernetesServer, cluster: Cluster, path: str, named: str, remedy: str
) -> None:
    del server.objects[path]
    findings = check_deployment(cluster, "models", PREDICTOR_ACCOUNT)
    with pytest.raises(ClusterError) as refused:
        findings.require_all()
    assert named in str(refused.value)
    assert remedy in str(refused.value)
    assert "lacks 1 of" in str(refused.value)


@pytest.mark.parametrize("labels", [{}, {SERVING_LABEL: "false"}, None])
def test_a_namespace_that_is_not_for_serving_is_named_with_the_command_that_makes_it_one(
    server: KubernetesServer, cluster: Cluster, labels: dict[str, str] | None
) -> None:
    server.objects[NAMESPACE]["metadata"]["labels"] = labels
    with pytest.raises(ClusterError, match=r"namespace models: has no label .*serving-namespace\.sh models"):
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()


def test_all_that_is_missing_is_told_at_once(server: KubernetesServer, cluster: Cluster) -> None:
    del server.objects[RUNTIME_PATH]
    server.denied = {"patch inferenceservices", "list events"}
    with pytest.raises(ClusterError, match="lacks 2 of") as refused:
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()
    assert "may not patch inferenceservices.serving.kserve.io, list events." in str(refused.value)
    assert str(refused.value).count("kubectl create rolebinding") == 1


RIGHTS = {f"{verb} inferenceservices" for verb in ("get", "create", "patch", "delete")}


def test_of_a_namespace_that_is_missing_one_line_tells_the_one_command_that_makes_it(
    server: KubernetesServer, cluster: Cluster
) -> None:
    for path in (NAMESPACE, ACCOUNT, SECRET):
        del server.objects[path]
    server.denied = {*RIGHTS, "list pods", "get pods", "list events"}
    with pytest.raises(ClusterError) as refused:
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()
    assert str(refused.value).splitlines()[1:] == [
        "  namespace models: missing. manifests/serving-namespace.sh models"
    ]


def test_steps_under_the_ui_s_own_account_are_told_which_one_to_run_under(
    server: KubernetesServer, cluster: Cluster
) -> None:
    server.user, server.denied = "system:serviceaccount:kubeflow:pipeline-runner", RIGHTS
    server.hidden = {NAMESPACE, ACCOUNT, RUNTIME_PATH}
    with pytest.raises(ClusterError, match="lacks 1 of") as refused:
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()
    assert "rights of kubeflow/pipeline-runner in models" in str(refused.value)
    assert f"Start the run with service account {PIPELINE_ACCOUNT}" in str(refused.value)
    assert "rolebinding" not in str(refused.value)


def test_an_account_that_is_wrong_is_told_beside_a_namespace_that_is_missing(
    server: KubernetesServer, cluster: Cluster
) -> None:
    del server.objects[NAMESPACE]
    server.user, server.denied = "system:serviceaccount:kubeflow:pipeline-runner", RIGHTS
    with pytest.raises(ClusterError, match="lacks 2 of"):
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()


def test_without_kserve_its_runtime_is_not_looked_for(server: KubernetesServer, cluster: Cluster) -> None:
    del server.objects[DISCOVERY], server.objects[RUNTIME_PATH]
    with pytest.raises(ClusterError, match="lacks 1 of"):
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()


def test_an_account_without_a_secret_is_told(server: KubernetesServer, cluster: Cluster) -> None:
    server.objects[ACCOUNT] = {"metadata": {}}
    with pytest.raises(ClusterError, match=r"lists no secret.*kubectl patch serviceaccount"):
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()


def test_a_secret_without_a_key_is_told_and_its_content_is_not(
    server: KubernetesServer, cluster: Cluster
) -> None:
    server.objects[SECRET]["data"] = {"AWS_ACCESS_KEY_ID": "c2VjcmV0"}
    findings = check_deployment(cluster, "models", PREDICTOR_ACCOUNT)
    with pytest.raises(ClusterError, match="has no AWS_SECRET_ACCESS_KEY"):
        findings.require_all()
    assert "c2VjcmV0" not in findings.markdown()


def test_what_may_not_be_looked_at_is_told_and_stops_nothing(
    server: KubernetesServer, cluster: Cluster
) -> None:
    server.hidden = {SECRET}
    findings = check_deployment(cluster, "models", PREDICTOR_ACCOUNT)
    findings.require_all()
    [row_of_secret] = [
        row for row in Rendered(findings.markdown()).rows if row[0] == f"S3 secret models/{S3_SECRET}"
    ]
    assert row_of_secret[1].startswith("not looked at: the cluster refuses GET")


def test_a_store_that_does_not_answer_is_told(server: KubernetesServer, cluster: Cluster) -> None:
    server.objects[SECRET]["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"] = "127.0.0.1:1"
    with pytest.raises(ClusterError, match=r"S3 store http://127\.0\.0\.1:1: does not answer"):
        check_deployment(cluster, "models", PREDICTOR_ACCOUNT).require_all()


def test_a_run_that_deploys_nothing_looks_at_no_cluster() -> None:
    findings = no_checks()
    findings.require_all()
    assert "deploys nothing" in findings.markdown()


TRAINER = f"/apis/{API_VERSION}"
TORCH = f"{TRAINER}/clustertrainingruntimes/torch-distributed"
JOBSET = "/apis/jobset.x-k8s.io/v1alpha2"
JOBSET_CONTROLLER = "/apis/apps/v1/namespaces/kubeflow-system/deployments/jobset-controller-manager"
VERSION = "/api/v1/namespaces/kubeflow-system/configmaps/kubeflow-trainer-public"


@pytest.fixture
def with_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TrainerServer, Cluster]]:
    with TrainerServer(lambda text: {}) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running, Cluster.connect(retry_after=(0.01,))


def test_a_cluster_that_can_train_on_several_nodes_passes(
    with_trainer: tuple[TrainerServer, Cluster],
) -> None:
    server, cluster = with_trainer
    server.objects[VERSION] = {"data": {"kubeflow_trainer_version": "v2.3.0"}}
    report = check_training(cluster, "kubeflow", "torch-distributed")
    report.require_all()
    assert {result.status() for result in report.results} == {"ok"}


@pytest.mark.parametrize(
    ("objects", "named"),
    [
        ({TRAINER: None}, "TrainJob: the cluster does not know it. Install Kubeflow Trainer 2.3"),
        ({VERSION: {"data": {"kubeflow_trainer_version": "v2.1.0"}}}, "TrainJob: Trainer is v2.1.0. Install"),
        ({JOBSET: None}, "JobSet, with which Trainer makes the nodes: the cluster does not know it. Install"),
        ({JOBSET_CONTROLLER: {"status": {}}}, "its controller does not run. kubectl describe deployment"),
        ({TORCH: None}, "runtime torch-distributed: there is none of that name (training_runtime). Take one"),
        (
            {TORCH: {"spec": {"mlPolicy": {"mpi": {}}}}},
            "training runtime torch-distributed: is not for PyTorch",
        ),
    ],
)
def test_what_training_on_several_nodes_lacks_is_told_before_it(
    with_trainer: tuple[TrainerServer, Cluster], objects: dict[str, Any], named: str
) -> None:
    server, cluster = with_trainer
    everything = {**server.objects, **objects}
    server.objects = {path: thing for path, thing in everything.items() if thing is not None}
    with pytest.raises(ClusterError) as refused:
        check_training(cluster, "kubeflow", "torch-distributed").require_all()
    assert named in str(refused.value)


def test_a_trainer_that_has_just_been_started_is_waited_for(
    with_trainer: tuple[TrainerServer, Cluster],
) -> None:
    server, cluster = with_trainer
    server.webhook_away = 5
    check_training(cluster, "kubeflow", "torch-distributed", (900.0, 0.01)).require_all()
    assert server.made == []
    server.webhook_away = 10_000
    with pytest.raises(
        ClusterError, match=r"webhook: Kubeflow Trainer is not ready after .*kubectl get pods"
    ):
        check_training(cluster, "kubeflow", "torch-distributed", (0.05, 0.01)).require_all()


def test_a_right_that_training_on_several_nodes_lacks_is_told(
    with_trainer: tuple[TrainerServer, Cluster],
) -> None:
    server, cluster = with_trainer
    server.denied = {"create trainjobs"}
    findings = check_training(cluster, "kubeflow", "torch-distributed")
    with pytest.raises(
        ClusterError, match=r"in kubeflow: it may not create trainjobs\.trainer\.kubeflow\.org\."
    ):
        findings.require_all()
