"""What is said of a run on a cluster while it goes, and when it has ended: never more than somebody knows."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miniml.cluster.inference_service import RUN, inference_service
from miniml.kubeflow.outcome import Outcome
from miniml.kubeflow.step_log import BUCKET
from miniml.kubeflow.submission import Server, SubmissionError
from miniml.settings.deployment import DeploymentSettings
from tests import patience
from tests.argo_workflow import RUN_ID, Moment, pod_name, workflow
from tests.kfp_server import FAILED_LOG, KfpServer
from tests.kubernetes_server import KubernetesServer
from tests.s3_server import WRITER, S3Server
from tests.stages import STAGES

DONE = dict.fromkeys(STAGES, "SUCCEEDED")
REJECTED = {**dict.fromkeys(STAGES[:-2], "SUCCEEDED"), "gate": "REJECTED"}
# The server says the same of a run by its workflow, which it tells in its first API, and, for less, by its tasks.
EITHER_WAY = pytest.mark.parametrize("has_version_1", [True, False], ids=["workflow", "tasks"])


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer(looks=[DONE]) as running:
        yield running


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    with KubernetesServer(lambda text: {}) as running:
        running.objects["/version"] = {"major": "1"}
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        yield running


def followed(server: KfpServer, **options: Any) -> tuple[list[str], Outcome]:
    """The lines that were told, without each stage's heading, and the outcome."""
    lines: list[str] = []
    client = Server.connect(server.url)
    outcome = client.follow(
        RUN_ID, STAGES, timeout=patience.SECONDS, poll_interval=0.0, show=lines.append, **options
    )
    return [line.partition("] ")[2] or line for line in lines], outcome


@EITHER_WAY
def test_a_stage_from_the_cache_is_said_to_be(server: KfpServer, has_version_1: bool) -> None:
    server.has_version_1, server.looks = has_version_1, [{**DONE, "train": "CACHED"}]
    lines, _ = followed(server)
    assert [line for line in lines if "cache" in line] == ["train · unchanged, taken from the cache"]
    assert "transform · succeeded in 1:05" in lines


@EITHER_WAY
def test_a_run_that_has_ended_is_looked_at_until_its_tasks_have(
    server: KfpServer, has_version_1: bool
) -> None:
    server.has_version_1, server.lags = has_version_1, 3
    server.looks = [{**DONE, "gate": "SUCCEEDED", "deploy": "RUNNING"}, DONE]
    lines, outcome = followed(server)
    assert lines[-1] == "deploy · succeeded in 1:05"
    assert outcome.deployment == "deployed"


def test_a_stage_that_was_last_seen_running_is_unknown_and_not_skipped(server: KfpServer) -> None:
    server.has_version_1, server.frozen_at = False, 1
    server.looks = [{**REJECTED, "gate": "RUNNING"}, DONE]
    lines, outcome = followed(server)
    assert lines[-2:] == [
        "gate · unknown: Kubeflow Pipelines says no more of it",
        "deploy · unknown: Kubeflow Pipelines says no more of it",
    ]
    assert outcome.deployment == "unknown"


def test_a_workflow_whose_nodes_argo_has_compressed_is_read(server: KfpServer) -> None:
    trials = [f"train/{number}" for number in range(20)]
    others = {stage: "SUCCEEDED" for stage in STAGES if stage != "train"}
    server.frozen_at = 1
    server.looks = [
        {"preflight": "SUCCEEDED", trials[0]: "RUNNING"},
        dict.fromkeys(trials, "SUCCEEDED") | others,
    ]
    lines, outcome = followed(server)
    ended = [line for line in lines if line.startswith("train") and "succeeded" in line]
    assert ended == [
        "train · succeeded in 1:05",
        *(f"train ({number}) · succeeded in 1:05" for number in range(2, 21)),
    ]
    assert outcome.deployment == "deployed"


def test_a_server_that_does_not_tell_the_workflow_leaves_the_cluster_to_be_asked(
    server: KfpServer, kubernetes: KubernetesServer
) -> None:
    server.has_version_1, server.frozen_at = False, 0
    path = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"
    kubernetes.objects[path] = {"items": [workflow(Moment(REJECTED, "Succeeded"), compressed=True)]}
    lines, outcome = followed(server)
    assert lines[-2:] == ["gate · succeeded in 1:05", "deploy · skipped"]
    assert outcome.deployment == "rejected"


@pytest.mark.parametrize(("labelled", "deployment"), [(RUN_ID, "deployed"), ("run-8", "unknown")])
def test_what_no_record_tells_the_service_itself_does(
    server: KfpServer, kubernetes: KubernetesServer, labelled: str, deployment: str
) -> None:
    server.has_version_1, server.frozen_at = False, 0
    server.arguments = {"service_name": "miniml", "options": {"namespace": "models"}}
    service = inference_service("s3://bucket/model", "d" * 64, DeploymentSettings(), run=labelled)
    assert service["metadata"]["labels"][RUN] == labelled
    kubernetes.services["miniml"] = service
    _, outcome = followed(server)
    assert outcome.deployment == deployment


@EITHER_WAY
@pytest.mark.parametrize(
    ("stages", "arguments", "deployment"),
    [
        (DONE, {"dry_run": False}, "deployed"),
        (DONE, {"dry_run": True}, "rendered"),
        (DONE, {"options": {"dry_run": True}}, "rendered"),
        (REJECTED, {}, "rejected"),
    ],
)
def test_what_became_of_the_model_is_asked_of_deploy_and_the_gate(
    server: KfpServer,
    has_version_1: bool,
    stages: dict[str, str],
    arguments: dict[str, Any],
    deployment: str,
) -> None:
    server.has_version_1, server.looks, server.arguments = has_version_1, [stages], arguments
    _, outcome = followed(server)
    assert outcome.deployment == deployment


def test_a_stage_after_deploy_says_nothing_of_the_deployment(server: KfpServer) -> None:
    server.looks = [{**REJECTED, "report": "SUCCEEDED"}]
    outcome = Server.connect(server.url).follow(
        RUN_ID, [*STAGES, "report"], timeout=patience.SECONDS, show=lambda line: None
    )
    assert outcome.deployment == "rejected"


@EITHER_WAY
def test_a_cancelled_run_is_told_as_one(server: KfpServer, has_version_1: bool) -> None:
    running = {"preflight": "SUCCEEDED", "train": "RUNNING"}
    server.has_version_1, server.end = has_version_1, "FAILED"
    server.looks = [
        Moment(running),
        Moment(running, terminated=True),
        Moment({**running, "train": "FAILED"}, "Failed", terminated=True),
    ]
    lines, outcome = followed(server)
    assert "train · cancelled" in lines
    assert outcome.state == "CANCELED"
    assert Server.connect(server.url).explanation(outcome).startswith("the run was cancelled")


def test_a_run_that_was_cancelled_before_anybody_looked_is_told_as_one(server: KfpServer) -> None:
    server.end = "FAILED"
    server.looks = [Moment({"train": "FAILED"}, "Failed", terminated=True)]
    _, outcome = followed(server)
    assert outcome.state == "CANCELED"


@pytest.mark.parametrize(
    "reason",
    [
        "ErrImagePull: failed to pull localhost/miniml-preflight:9: not found",
        "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
        'pods "x" is forbidden: exceeded quota: small, requested: memory=2Gi',
    ],
)
@pytest.mark.parametrize("where", ["preflight", "preflight-driver"])
def test_what_keeps_a_step_from_starting_is_told_while_it_waits(
    server: KfpServer, reason: str, where: str
) -> None:
    server.looks = [
        Moment({"preflight": "PENDING" if where == "preflight" else "OMITTED"}, messages={where: reason}),
        DONE,
    ]
    lines, _ = followed(server)
    assert lines[:2] == [f"preflight · waiting: {reason}", "preflight · succeeded in 1:05"]


def test_a_step_that_does_not_start_for_no_reason_that_is_told_is_worth_a_line(server: KfpServer) -> None:
    server.has_version_1, server.looks = False, [{"preflight": "PENDING"}, {"preflight": "PENDING"}, DONE]
    lines, _ = followed(server, slow_start=0.0)
    assert lines[0] == (
        "preflight · its pod has not started; to see why: "
        "kubectl describe pods -n kubeflow -l pipeline/runid=run-0"
    )


IMAGE = {"reason": "ErrImagePull", "message": "no such image"}
FULL = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "1 Insufficient cpu.",
}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"containerStatuses": [{"name": "main", "state": {"waiting": IMAGE}}]},
            "ErrImagePull: no such image",
        ),
        ({"conditions": [FULL]}, "Unschedulable: 1 Insufficient cpu."),
    ],
)
def test_pods_tell_where_no_workflow_does(
    server: KfpServer, kubernetes: KubernetesServer, status: dict[str, Any], reason: str
) -> None:
    annotations = {"workflows.argoproj.io/node-name": "w(0).root(0).preflight(0).executor(0)"}
    metadata = {"name": "pod-1", "annotations": annotations}
    kubernetes.pods = [{"metadata": metadata, "status": {"phase": "Pending", **status}}]
    server.has_version_1, server.looks = False, [{"preflight": "RUNNING"}, DONE]
    lines, _ = followed(server)
    assert lines[:2] == [f"preflight · waiting: {reason}", "preflight · succeeded in 1:05"]


def test_a_workflow_that_argo_does_not_take_is_told(server: KfpServer) -> None:
    server.end, server.refused_workflow = "FAILED", "template root is not valid"
    lines, outcome = followed(server)
    assert lines[0] == "the workflow · failed: template root is not valid"
    assert "the workflow: template root" in Server.connect(server.url).explanation(outcome)


def test_nodes_that_argo_keeps_elsewhere_are_not_taken_for_none(server: KfpServer) -> None:
    server.offloaded = True
    lines, outcome = followed(server)
    assert lines[-1] == "deploy · succeeded in 1:05"
    assert outcome.deployment == "deployed"


def test_a_run_that_was_cancelled_and_then_retried_fails_by_itself(server: KfpServer) -> None:
    server.has_version_1, server.end = False, "FAILED"
    server.looks, server.history = [{"train": "FAILED"}], ["RUNNING", "CANCELING", "FAILED", "RUNNING"]
    _, outcome = followed(server)
    assert outcome.state == "FAILED"


def test_a_pod_that_is_only_about_to_start_is_worth_none(server: KfpServer) -> None:
    starting = Moment({"preflight": "PENDING"}, messages={"preflight": "PodInitializing"})
    server.looks = [starting, starting, {"preflight": "RUNNING"}, DONE]
    lines, _ = followed(server)
    assert lines[0] == "preflight · running"


def test_a_pod_that_was_lost_and_is_made_again_is_told(server: KfpServer) -> None:
    lost = {"train": ["pod deleted"]}
    server.looks = [
        Moment({"train": "RUNNING"}),
        Moment({"train": "RUNNING"}, lost=lost),
        Moment(DONE, lost=lost),
    ]
    lines, _ = followed(server)
    assert [line for line in lines if line.startswith("train")] == [
        "train · running",
        "train · running, attempt 2 after: pod deleted",
        "train · succeeded in 1:05",
    ]


def test_a_pod_that_is_made_again_is_told_without_a_workflow_too(server: KfpServer) -> None:
    server.has_version_1 = False
    server.looks = [Moment({"train": "RUNNING"}, lost={"train": ["pod deleted"]}), DONE]
    lines, _ = followed(server)
    assert lines[0] == "train · running, attempt 2 after: its pod was lost"


def test_an_account_that_does_not_exist_is_told_with_the_remedy(server: KfpServer) -> None:
    message = 'pods "x" is forbidden: error looking up service account kubeflow/nobody: not found'
    server.looks, server.end = [Moment(failed_drivers={"root-driver": message})], "FAILED"
    lines, outcome = followed(server)
    assert lines[0] == f"root-driver · failed: {message}"
    explained = Server.connect(server.url).explanation(outcome)
    assert explained.startswith(f"root-driver: {message}. Install it (kubectl apply -k")


@pytest.mark.parametrize("driver", ["root-driver", "train-driver"])
def test_a_driver_that_fails_is_told_by_the_tasks_too(server: KfpServer, driver: str) -> None:
    server.has_version_1, server.end = False, "FAILED"
    server.looks = [Moment({"train": "OMITTED"}, failed_drivers={driver: "nobody tells this"})]
    _, outcome = followed(server)
    explained = Server.connect(server.url).explanation(outcome)
    assert explained.startswith(f"{driver}: what prepares a step failed")
    assert "--pipeline-account" in explained


@pytest.mark.parametrize(
    ("message", "log", "explained"),
    [
        ("", FAILED_LOG, "column 'label' not in train.csv; it has: text, target.\nSet label_column."),
        (
            "main: OOMKilled (exit code 137)",
            "miniml~ train 1/9\n",
            "main: OOMKilled (exit code 137)",
        ),
        ("", "error: stopped by SIGTERM\nat step 7\n", "stopped by SIGTERM\nat step 7"),
        ("", "one\ntwo\n", "one\ntwo"),
        (
            "",
            FAILED_LOG.replace("component: exit status 1", "component: failed to upload the model: 404"),
            "failed to execute component: failed to upload the model: 404",
        ),
        (
            "",
            f"{FAILED_LOG}\n{'x' * 9000}\n",
            "column 'label' not in train.csv; it has: text, target.\nSet label",
        ),
    ],
    ids=["raised", "killed", "printed", "without a word", "launcher", "much after it"],
)
def test_a_failing_steps_own_error_reaches_the_user(
    server: KfpServer, message: str, log: str, explained: str
) -> None:
    moment = Moment({"train": "FAILED"}, messages={"train": message} if message else {})
    server.looks, server.end, server.logs = [moment], "FAILED", {pod_name("train"): log}
    _, outcome = followed(server)
    lines = Server.connect(server.url).explanation(outcome)
    assert lines.startswith(f"train: {explained}")
    assert lines.splitlines()[-1].startswith(
        f"the run ended as FAILED. Its steps and their logs: {server.url}/#/"
    )


def test_a_driver_that_fails_is_its_stages_failure(server: KfpServer) -> None:
    moment = Moment({"train": "OMITTED"}, failed_drivers={"train-driver": "main: OOMKilled (exit code 137)"})
    server.looks, server.end = [moment], "FAILED"
    lines, outcome = followed(server)
    assert "train · failed in 1:05" in lines
    assert "train: main: OOMKilled" in Server.connect(server.url).explanation(outcome)


def test_the_log_is_had_through_the_ui_too(server: KfpServer) -> None:
    server.is_ui, server.looks = True, [{"train": "SUCCEEDED"}]
    server.logs[pod_name("train")] = "miniml: trained\n"
    assert Server.connect(server.url).step_log(RUN_ID, "train") == "miniml: trained\n"


def test_the_log_of_a_trial_is_the_one_that_was_asked_for(server: KfpServer) -> None:
    server.looks = [{"train/0": "SUCCEEDED", "train/10": "SUCCEEDED", "train/2": "SUCCEEDED"}]
    server.logs = {pod_name(f"train/{number}"): f"trial {number}" for number in (0, 2, 10)}
    assert Server.connect(server.url).step_log(RUN_ID, "train", 11) == "trial 10"


def test_the_log_of_a_pod_whose_name_nobody_tells_is_had_from_the_cluster(
    server: KfpServer, kubernetes: KubernetesServer
) -> None:
    server.has_version_1, server.looks = False, [{"train": "SUCCEEDED"}]
    nodes = [
        "w(0).root(0).train-driver(0)",
        "w(0).root(0).train(0).executor(0)",
        "w(0).root(0).gate(0).executor(0)",
    ]
    kubernetes.pods = [
        {"metadata": {"name": f"pod-{n}", "annotations": {"workflows.argoproj.io/node-name": node}}}
        for n, node in enumerate(nodes)
    ]
    kubernetes.log = "miniml: trained"
    assert Server.connect(server.url).step_log(RUN_ID, "train") == "pod-1 previous=false\nminiml: trained"


def test_the_log_that_the_launcher_has_stored_is_had_when_all_pods_are_gone(
    server: KfpServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    client = s3_server.client()
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    for attempt in (b"0", b"1"):
        key = f"v2/artifacts/text-classification/{RUN_ID}/evaluate/5c1f/executor-logs-{attempt.decode()}"
        client.put_object(BUCKET, key, io.BytesIO(attempt), 1)
    server.looks = [{"evaluate": "SUCCEEDED"}]
    assert Server.connect(server.url).step_log(RUN_ID, "evaluate") == "1"
    client.put_object(BUCKET, key.replace("5c1f", "6d2e"), io.BytesIO(b"of another trial"), 16)
    with pytest.raises(SubmissionError, match="do not tell which is whose"):
        Server.connect(server.url).step_log(RUN_ID, "evaluate")


def test_a_log_that_nobody_has_is_said_with_who_was_asked(server: KfpServer) -> None:
    server.is_ui, server.looks = False, [{"train": "SUCCEEDED"}]
    with pytest.raises(SubmissionError, match=r"no log of train .*Kubeflow Pipelines: Failed to read logs"):
        Server.connect(server.url).step_log(RUN_ID, "train")
