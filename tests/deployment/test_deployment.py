"""Deploy makes a model live, or says why not and leaves what served before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from miniml.champion.record import Champion
from miniml.cluster.api import BRIEFLY, RETRY_AFTER, Cluster
from miniml.cluster.inference_service import MODEL_DIGEST, RUN, inference_service
from miniml.deployment.deploy import Deployed, deploy
from miniml.deployment.rollout import RolloutTimeouts, SupersededError
from miniml.errors import ClusterError, DeploymentError, GateError, ModelFolderError
from miniml.evaluation.evaluate import evaluate_model
from miniml.evaluation.result import Comparison, Estimate, EvaluationResult
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.gate import GateSettings
from miniml.tasks import SingleLabelPrediction
from tests import kubernetes_server, patience, tiny
from tests.kubernetes_server import (
    WEBHOOK_AWAY,
    KubernetesServer,
    fails_with,
    pod,
    stays_as_it_is,
    warning,
    without_metrics,
)
from tests.rendered import Rendered
from tests.versions import KUBERNETES

SETTINGS = DeploymentSettings(service_name="stars", namespace="models")
TIMEOUTS = RolloutTimeouts(
    timeout=patience.SECONDS,
    poll_interval=0.01,
    unschedulable=0.0,
    trouble=0.0,
    stale_trouble=0.0,
    webhook=0.0,
)
QUOTA = (
    'pods "stars-predictor-6d4f9c7b5-%s" is forbidden: exceeded quota: compute, requested: requests.cpu=2, '
    "used: requests.cpu=3, limited: requests.cpu=4"
)
OLD, NEW = "s3://bucket/old", "s3://bucket/new"


@pytest.fixture(scope="module")
def result(model_dir: Path, dataset_dir: Path) -> EvaluationResult:
    return evaluate_model(model_dir, dataset_dir)


@pytest.fixture(scope="module")
def classifier(model_dir: Path) -> Classifier[SingleLabelPrediction]:
    return Classifier.load(model_dir, SingleLabelPrediction)


@pytest.fixture
def server(classifier: Classifier[SingleLabelPrediction]) -> Iterator[KubernetesServer]:
    def answer(text: str) -> dict[str, float]:
        (prediction,) = classifier.predict([text])
        return dict(prediction.probabilities)

    with KubernetesServer(answer) as running:
        yield running


@pytest.fixture
def cluster(server: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(server.write_kubeconfig(tmp_path / "kubeconfig")))
    return Cluster.connect(retry_after=(0.01, 0.01, 0.01))


@pytest.fixture
def make_live(model_dir: Path, result: EvaluationResult, cluster: Cluster, tmp_path: Path) -> Any:
    def make(uri: str, **changed: Any) -> Deployed:
        arguments: dict[str, Any] = {
            "model_dir": model_dir,
            "settings": SETTINGS,
            "result": result,
            "timeouts": TIMEOUTS,
            "cluster": cluster,
            "run": "run-1",
            **changed,
        }
        return deploy(
            model_uri=uri,
            approved=True,
            signed_off=result.model_digest,
            gate=GateSettings(0.0),
            manifest_path=tmp_path / "inference_service",
            **arguments,
        )

    return make


def served(server: KubernetesServer) -> str:
    return str(server.services["stars"]["spec"]["predictor"]["model"]["storageUri"])


def test_a_model_in_the_store_comes_to_serve(
    server: KubernetesServer, make_live: Any, model_dir: Path
) -> None:
    deployed = make_live("minio://bucket/new")
    assert served(server) == NEW
    assert (deployed.applied, deployed.url, deployed.generation) == (True, "http://stars.models.example", 1)
    metadata = server.services["stars"]["metadata"]
    assert metadata["labels"][RUN] == "run-1"
    assert metadata["annotations"][MODEL_DIGEST] == manifest.read(model_dir).digest
    assert ["address", "http://stars.models.example"] in Rendered(deployed.markdown()).rows


def test_a_second_version_replaces_the_first(server: KubernetesServer, make_live: Any) -> None:
    make_live(OLD)
    assert make_live(NEW).generation == 2
    assert [entry["model"] for entry in server.pods] == [NEW]


def test_ready_is_not_believed_while_the_old_revision_serves(
    server: KubernetesServer, make_live: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make_live(OLD)
    server.fates[NEW] = stays_as_it_is
    with pytest.raises(DeploymentError, match=r"0 of 1 new pods ready, 1 of the revision before still there"):
        make_live(NEW, timeouts=replace(TIMEOUTS, timeout=0.1))


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        (fails_with("ImagePullBackOff", "no such image"), "ImagePullBackOff no such image"),
        (fails_with("CrashLoopBackOff", restarts=2), "CrashLoopBackOff"),
        (fails_with("CrashLoopBackOff", init=True, restarts=1), "container 'storage-initializer'"),
        (fails_with("CreateContainerConfigError", "secret x not found"), "secret x not found"),
    ],
)
def test_what_time_will_not_mend_ends_the_wait_at_once_and_is_rolled_back(
    server: KubernetesServer, make_live: Any, fate: kubernetes_server.Fate, words: str
) -> None:
    make_live(OLD)
    server.fates[NEW] = fate
    with pytest.raises(DeploymentError) as failed:
        make_live(NEW)
    assert words in str(failed.value)
    assert "What served before was put back and serves" in str(failed.value)
    assert served(server) == OLD
    assert [entry["model"] for entry in server.pods] == [OLD]


def test_a_crash_is_told_with_conditions_events_and_the_last_log_lines(
    server: KubernetesServer, make_live: Any
) -> None:
    server.fates[NEW] = fails_with("CrashLoopBackOff", restarts=2)
    server.log = "error: model folder /mnt/models: model.safetensors was changed"
    server.events = [
        warning("InferenceService", "stars", "InternalError", "fails to reconcile"),
        warning("Pod", "else", "Killing", "another one's"),
    ]
    with pytest.raises(DeploymentError) as failed:
        make_live(NEW)
    message = str(failed.value)
    assert "Ready=False MinimumReplicasUnavailable" in message
    assert message.count("MinimumReplicasUnavailable") == 1
    assert "Stopped" not in message
    assert "stars: InternalError: fails to reconcile" in message
    assert "another one's" not in message
    assert "model.safetensors was changed" in message
    assert "previous=true" in message  # A container that has restarted tells little in its new log.


def test_a_pod_that_no_node_has_room_for_is_told(server: KubernetesServer, make_live: Any) -> None:
    def unschedulable(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        stuck = pod(service, ready=False)
        stuck["status"]["conditions"].append(
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "Insufficient cpu",
            }
        )
        server.pods = [stuck]
        yield

    server.fates[NEW] = unschedulable
    with pytest.raises(DeploymentError, match="finds no node: Insufficient cpu"):
        make_live(NEW)


def over_quota(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
    """The Deployment's ReplicaFailure, which KServe passes on (PropagateRawStatus); each try names another pod."""
    server.set_status(service, ready=False, reason="FailedCreate", message=QUOTA % "aaaaa")
    replicas = "stars-predictor-6d4f9c7b5"
    server.events = [
        *without_metrics("stars-predictor"),
        *(
            warning("ReplicaSet", replicas, "FailedCreate", f"Error creating: {QUOTA % name}")
            for name in ("aaaaa", "bbbbb", "ccccc")
        ),
    ]
    yield


def test_a_quotas_refusal_is_told_once_and_the_autoscalers_warnings_are_not(
    server: KubernetesServer, make_live: Any
) -> None:
    server.fates[NEW] = over_quota
    with pytest.raises(DeploymentError, match="FailedCreate") as failed:
        make_live(NEW)
    assert str(failed.value).count("exceeded quota: compute") == 1
    assert "metrics" not in str(failed.value)


def test_whatever_the_cluster_says_the_message_stays_short(server: KubernetesServer, make_live: Any) -> None:
    def refused_at_length(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        message = f"{QUOTA % 'aaaaa'} {'and so on, ' * 1000}"
        server.set_status(service, ready=False, reason="FailedCreate", message=message)
        server.events = [
            warning("ReplicaSet", "stars-predictor-6d4f9c7b5", "FailedCreate", f"Error creating: {message}"),
            warning("InferenceService", "stars", "InternalError", message * 2, at="2026-11-27T12:02:00Z"),
            {"involvedObject": {}},
        ]
        yield

    server.fates[NEW] = refused_at_length
    with pytest.raises(DeploymentError) as failed:
        make_live(NEW)
    assert str(failed.value).count("exceeded quota") == 1
    assert len(str(failed.value)) < 1000


def test_of_what_was_warned_of_the_pods_own_comes_first(server: KubernetesServer, make_live: Any) -> None:
    def crashes(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        name = pod(service)["metadata"]["name"]
        server.events = [
            *without_metrics("stars-predictor"),
            warning("InferenceService", "stars", "InternalError", "of this rollout"),
            warning("InferenceService", "stars", "InternalError", "of last week", at="2026-11-20T12:00:00Z"),
            warning("Pod", name, "BackOff", "restarting failed container", at="2026-11-27T12:00:30Z"),
            *(warning("Pod", name, "Unhealthy", f"probe failed {n % 2}") for n in range(4)),
        ]
        yield from fails_with("CrashLoopBackOff", restarts=2)(server, service)

    server.fates[NEW] = crashes
    with pytest.raises(DeploymentError) as failed:
        make_live(NEW)
    events = [line for line in str(failed.value).splitlines() if line.startswith("  stars") and ": " in line]
    events = [line.partition(": ")[2] for line in events]
    assert events == [
        "BackOff: restarting failed container",
        "Unhealthy: probe failed 0",
        "Unhealthy: probe failed 1",
        "InternalError: of this rollout",
    ]


def test_the_autoscalers_warnings_are_told_where_there_are_no_others(
    server: KubernetesServer, make_live: Any
) -> None:
    server.fates[NEW] = fails_with("CrashLoopBackOff")
    server.events = without_metrics("stars-predictor")
    with pytest.raises(DeploymentError, match="stars-predictor: FailedGetResourceMetric: failed to get cpu"):
        make_live(NEW)


def no_such_runtime(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
    server.refuse_spec(service, "RuntimeNotRecognized", "Waiting for runtime to become available")
    yield


def test_a_spec_that_kserve_refuses_is_told_and_rolled_back(server: KubernetesServer, make_live: Any) -> None:
    make_live(OLD)
    server.fates[NEW] = no_such_runtime
    with pytest.raises(DeploymentError, match="RuntimeNotRecognized: Waiting for runtime") as failed:
        make_live(NEW)
    assert "put back and serves" in str(failed.value)


def test_what_kserve_said_of_an_earlier_revision_is_not_held_against_this_one(
    server: KubernetesServer, make_live: Any
) -> None:
    server.fates[OLD] = no_such_runtime
    with pytest.raises(DeploymentError):
        make_live(OLD)
    # Somebody makes it by hand, and mends it.
    server.services["stars"] = inference_service(OLD, "d" * 64, SETTINGS)
    server.services["stars"]["metadata"] |= {"uid": "u", "generation": 12}
    server.services["stars"]["status"] = {}
    server.refuse_spec(server.services["stars"], "RuntimeNotRecognized", "Waiting for runtime")
    for _ in kubernetes_server.becomes_ready(server, server.services["stars"]):
        pass
    assert "lastFailureInfo" in server.services["stars"]["status"]["modelStatus"]
    assert make_live("s3://bucket/mended").applied
    server.fates[NEW] = fails_with("CrashLoopBackOff")
    with pytest.raises(DeploymentError, match="CrashLoopBackOff") as failed:
        make_live(NEW)
    assert "RuntimeNotRecognized" not in str(failed.value)


def test_a_refusal_that_was_there_before_counts_only_after_kserve_has_had_time_to_look(
    server: KubernetesServer, make_live: Any
) -> None:
    def looks_late(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        for _ in range(3):
            yield
        yield from kubernetes_server.becomes_ready(server, service)

    make_live(OLD)
    server.refuse_spec(server.services["stars"], "RuntimeNotRecognized", "Waiting for runtime")
    server.fates[NEW] = looks_late
    assert make_live(NEW, timeouts=replace(TIMEOUTS, stale_trouble=patience.SECONDS)).applied
    server.refuse_spec(server.services["stars"], "RuntimeNotRecognized", "Waiting for runtime")
    server.fates[OLD] = looks_late
    with pytest.raises(DeploymentError, match="RuntimeNotRecognized"):
        make_live(OLD)


def test_the_wait_says_what_pods_tell_whatever_generation_kserve_has_written_down(
    server: KubernetesServer, make_live: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def two_by_two(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        old = list(server.pods)
        yield
        for ready in (1, 2):
            server.pods = [*old, pod(service, 0), pod(service, 1, ready=ready == 2)]
            server.set_status(service, ready=True)
            yield
        server.pods = server.pods[-2:]
        yield

    two = replace(SETTINGS, min_replicas=2, max_replicas=2)
    make_live(OLD, settings=two)
    server.fates[NEW] = two_by_two
    capsys.readouterr()
    assert make_live(NEW, settings=two).generation == 2
    waited = [
        line for line in capsys.readouterr().out.splitlines() if "new pods ready" in line and "~" not in line
    ]
    assert waited == [
        "miniml: 0 of 2 new pods ready, none made yet, 2 of the revision before still there",
        "miniml: 1 of 2 new pods ready, 2 of the revision before still there",
        "miniml: 2 of 2 new pods ready, 2 of the revision before still there",
    ]


def test_a_service_that_somebody_has_stopped_is_left_alone(server: KubernetesServer, make_live: Any) -> None:
    make_live(OLD)
    server.services["stars"]["metadata"]["annotations"]["serving.kserve.io/stop"] = "true"
    with pytest.raises(
        DeploymentError, match=r"is stopped.*kubectl annotate inferenceservice stars -n models"
    ):
        make_live(NEW)
    assert served(server) == OLD


def test_a_pod_that_was_evicted_long_ago_is_not_waited_for(server: KubernetesServer, make_live: Any) -> None:
    def beside_an_evicted_one(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        evicted = server.pods[-1]
        evicted["status"] = {**evicted["status"], "phase": "Failed", "reason": "Evicted"}
        evicted["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        server.pods = [evicted, pod(service)]
        server.set_status(service, ready=True)
        yield

    make_live(OLD)
    server.fates[NEW] = beside_an_evicted_one
    assert make_live(NEW).applied


def test_a_webhook_that_is_away_while_pods_are_to_be_made_is_waited_for(
    server: KubernetesServer, make_live: Any
) -> None:
    def once_it_is_back(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        for _ in range(3):
            server.set_status(service, ready=False, reason="FailedCreate", message=WEBHOOK_AWAY)
            yield
        yield from kubernetes_server.becomes_ready(server, service)

    server.fates[NEW] = once_it_is_back
    assert make_live(NEW, timeouts=replace(TIMEOUTS, webhook=patience.SECONDS)).applied
    make_live(OLD)
    with pytest.raises(DeploymentError, match=r"FailedCreate: .*failed calling webhook"):
        make_live(NEW)


def test_a_first_deployment_that_fails_leaves_nothing(server: KubernetesServer, make_live: Any) -> None:
    server.fates[NEW] = fails_with("CrashLoopBackOff")
    with pytest.raises(DeploymentError, match="the new one was deleted"):
        make_live(NEW)
    assert server.services == {}


def test_each_service_that_serves_has_a_budget_of_its_own_that_goes_with_it(
    server: KubernetesServer, make_live: Any, cluster: Cluster
) -> None:
    make_live(NEW)
    make_live(NEW, settings=replace(SETTINGS, service_name="moons"))
    assert server.budgets.keys() == {"stars-predictor", "moons-predictor"}
    for name in ("stars", "moons"):
        budget = server.budgets[f"{name}-predictor"]
        kubernetes_validate.validate(budget, KUBERNETES, strict=True)
        assert budget["metadata"]["namespace"] == "models"
        assert budget["spec"]["selector"]["matchLabels"]["serving.kserve.io/inferenceservice"] == name
    cluster.delete_inference_service("models", "stars")
    assert server.budgets.keys() == {"moons-predictor"}


def test_a_deployment_that_fails_leaves_the_budget_that_was_there(
    server: KubernetesServer, make_live: Any
) -> None:
    make_live(OLD)
    theirs = server.budgets["stars-predictor"] = {"metadata": {"name": "stars-predictor"}, "spec": {}}
    server.fates[NEW] = fails_with("CrashLoopBackOff")
    with pytest.raises(DeploymentError):
        make_live(NEW)
    assert server.budgets == {"stars-predictor": theirs}


def test_a_budget_that_may_not_be_made_is_told_and_takes_no_model_away(
    server: KubernetesServer, make_live: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.denied = {"patch poddisruptionbudgets"}
    assert make_live(NEW).applied
    assert "stars-predictor could not be applied, so draining nodes may" in capsys.readouterr().out


def test_a_service_that_answers_otherwise_than_in_evaluation_is_rolled_back(
    server: KubernetesServer, make_live: Any
) -> None:
    make_live(OLD)
    server.answers[NEW] = lambda text: {"bad": 0.5, "good": 0.5}
    with pytest.raises(DeploymentError, match="not as the evaluated model did"):
        make_live(NEW)
    assert served(server) == OLD


def test_a_failed_rollback_is_told_beside_the_first_failure(server: KubernetesServer, make_live: Any) -> None:
    make_live(OLD)
    server.fates[NEW] = fails_with("CrashLoopBackOff")
    server.fates[OLD] = fails_with("ImagePullBackOff")
    with pytest.raises(DeploymentError, match=r"(?s)CrashLoopBackOff.*PUTTING BACK.*ImagePullBackOff"):
        make_live(NEW)


def test_a_service_that_miniml_did_not_make_is_put_back_as_well(
    server: KubernetesServer, make_live: Any
) -> None:
    theirs: dict[str, Any] = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "stars", "namespace": "models", "generation": 7, "uid": "theirs"},
        "spec": {"predictor": {"minReplicas": 1, "model": {"storageUri": OLD}}},
        "status": {},
    }
    server.services["stars"] = theirs
    server.pods = [pod({**theirs, "metadata": {**theirs["metadata"], "annotations": {}}})]
    server.fates[NEW] = fails_with("CrashLoopBackOff")
    with pytest.raises(DeploymentError, match="put back and serves: model of unknown"):
        make_live(NEW)
    assert server.services["stars"]["spec"] == theirs["spec"]


def test_a_conflict_names_the_other_manager_and_changes_nothing(
    server: KubernetesServer, make_live: Any
) -> None:
    make_live(OLD)
    server.managers["stars"] = "kubectl-edit"
    with pytest.raises(ClusterError, match=r"kubectl-edit.*--force-conflicts"):
        make_live(NEW)
    assert served(server) == OLD


def test_a_403_names_the_account_and_the_remedy(server: KubernetesServer, make_live: Any) -> None:
    server.denied = {"patch inferenceservices"}
    with pytest.raises(ClusterError, match=r"pipeline-runner.*manifests/"):
        make_live(NEW)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            403,
            'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '
            "minReplicas cannot be greater than maxReplicas",
        ),
        (
            422,
            'inferenceservices.serving.kserve.io "stars" is forbidden: ValidatingAdmissionPolicy '
            "'miniml' with binding 'miniml' denied request: no runtime but ours",
        ),
        (
            403,
            'inferenceservices.serving.kserve.io "stars" is forbidden: exceeded quota: count, requested: 1',
        ),
    ],
)
def test_a_refusal_at_admission_is_passed_on_and_blames_no_right(
    server: KubernetesServer, make_live: Any, code: int, said: str
) -> None:
    server.admission = [(code, said)]
    with pytest.raises(ClusterError) as refused:
        make_live(NEW)
    assert said in str(refused.value)
    assert "Grant" not in str(refused.value)


def test_a_webhook_that_is_away_when_the_service_is_applied_is_waited_for_and_that_is_said_once(
    server: KubernetesServer, make_live: Any, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    server.admission = [(500, WEBHOOK_AWAY)] * 7
    assert make_live(NEW, cluster=Cluster.connect(retry_after=(0.01,) * 8)).applied
    (output,) = [line for line in capsys.readouterr().out.splitlines() if "waiting for up to" in line]
    assert "failed calling webhook" in output


def test_a_log_that_is_not_to_be_had_is_given_up_soon(
    server: KubernetesServer, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fails = [500] * 9
    patient = Cluster.connect(retry_after=(0.01,) * 8)
    assert patient.log("models", "stars-predictor-6d4f9c7b5-aaaaa", "main", lines=5, previous=False) == ""
    assert len(server.requests) == 1 + len(BRIEFLY)
    assert "waiting" not in capsys.readouterr().out


def test_deploying_outlasts_a_webhook_that_moves_to_another_node_and_a_question_does_not() -> None:
    seen = 32  # Seconds that KServe's webhooks were away when their one pod was drained: issue 18.
    assert 3 * seen < sum(RETRY_AFTER) <= 180
    assert sum(BRIEFLY) < 5


def test_someone_elses_change_during_the_wait_is_left_alone(server: KubernetesServer, make_live: Any) -> None:
    def overtaken(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        theirs = {**service, "metadata": {**service["metadata"], "annotations": {}}}
        server.services["stars"] = theirs
        yield

    server.fates[NEW] = overtaken
    with pytest.raises(SupersededError, match="changed by somebody else"):
        make_live(NEW)
    assert "stars" in server.services


def test_dropped_connections_and_a_busy_server_are_survived(server: KubernetesServer, make_live: Any) -> None:
    def dropping(server: KubernetesServer, service: dict[str, Any]) -> Iterator[None]:
        steps = kubernetes_server.becomes_ready(server, service)
        for _ in steps:
            server.drops, server.fails = 1, [503]
            yield

    server.fates[NEW] = dropping
    assert make_live(NEW).applied


def test_an_api_server_that_stays_away_is_told(server: KubernetesServer, make_live: Any) -> None:
    server.drops = 100
    with pytest.raises(ClusterError, match=r"does not answer.*kubectl cluster-info"):
        make_live(NEW)


def test_from_outside_the_cluster_the_api_server_passes_the_question_on(
    server: KubernetesServer, make_live: Any
) -> None:
    server.resolvable = False
    assert make_live(NEW).applied
    assert any("/proxy/v1/models/stars:predict" in request for request in server.requests)


def test_a_model_on_a_local_disk_is_rendered_only(
    server: KubernetesServer, make_live: Any, tmp_path: Path
) -> None:
    assert not make_live("/home/me/model").applied
    assert server.requests == []
    service = yaml.safe_load((tmp_path / "inference_service").read_text())
    assert service["spec"]["predictor"]["model"]["storageUri"] == "file:///home/me/model"


def test_a_dry_run_renders_only(server: KubernetesServer, make_live: Any, tmp_path: Path) -> None:
    deployed = make_live(NEW, settings=replace(SETTINGS, dry_run=True))
    assert not deployed.applied
    assert server.requests == []
    assert "rendered, not applied" in deployed.markdown()
    assert yaml.safe_load((tmp_path / "inference_service").read_text())["metadata"]["name"] == "stars"


def test_a_rejected_model_is_not_even_rendered(
    model_dir: Path, result: EvaluationResult, tmp_path: Path
) -> None:
    path = tmp_path / "inference_service"
    with pytest.raises(GateError):
        deploy(
            model_dir, "s3://b/model", False, result.model_digest, result, GateSettings(0.0), SETTINGS, path
        )
    assert not path.exists()


def test_a_folder_with_one_flipped_byte_is_not_deployed(
    server: KubernetesServer, make_live: Any, model_dir: Path, tmp_path: Path
) -> None:
    flipped = tmp_path / "flipped"
    shutil.copytree(model_dir, flipped)
    weights = bytearray((flipped / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (flipped / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelFolderError, match=r"model\.safetensors has SHA-256"):
        make_live(NEW, model_dir=flipped)
    assert server.requests == []


def test_another_signed_model_than_was_evaluated_is_not_deployed(
    server: KubernetesServer, make_live: Any, result: EvaluationResult, tmp_path: Path
) -> None:
    other = tiny.write_classifier(tmp_path / "other")
    with pytest.raises(GateError, match="was evaluated"):
        make_live(NEW, model_dir=other)
    # Nor where the figures have been put under its name: the verdict is about the one that was judged.
    with pytest.raises(GateError, match="was signed off by the gate"):
        make_live(NEW, model_dir=other, result=replace(result, model_digest=manifest.read(other).digest))
    assert server.requests == []


def test_the_pods_are_told_which_digest_to_expect(
    server: KubernetesServer, make_live: Any, model_dir: Path
) -> None:
    make_live(NEW)
    expected = f"--expected_digest={manifest.read(model_dir).digest}"
    assert server.services["stars"]["spec"]["predictor"]["model"]["args"] == [expected]


def test_what_came_to_serve_since_the_comparison_is_not_replaced(
    server: KubernetesServer, make_live: Any, result: EvaluationResult
) -> None:
    nothing = Champion(place="models/stars", absent="Nothing is served as models/stars")
    assert make_live(OLD, champion=nothing).applied
    assert make_live(NEW, champion=nothing).applied  # The same model again, after a lost answer say.
    server.services["stars"]["metadata"]["annotations"][MODEL_DIGEST] = "a" * 64
    before = len(server.requests)
    with pytest.raises(
        GateError, match=r"models/stars serves model a+ now, but the gate compared with nothing"
    ):
        make_live(NEW, champion=nothing)
    assert len(server.requests) == before + 1
    compared = replace(result, comparison=Comparison("c" * 64, 0.5, 9, 0, Estimate(0.1, 0.05, 0.2), 0.01))
    with pytest.raises(GateError, match="the gate compared with cccccccccccc"):
        make_live(NEW, result=compared, champion=Champion("c" * 64, OLD, "", "models/stars"))
    server.services["stars"]["metadata"]["annotations"][MODEL_DIGEST] = "c" * 64
    assert make_live(NEW, result=compared, champion=Champion("c" * 64, OLD, "", "models/stars")).applied


def test_without_any_cluster_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(ClusterError, match="KUBECONFIG"):
        Cluster.connect()
