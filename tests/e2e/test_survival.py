"""What a run survives: a killed training, a store that restarts, a webhook that is away, nodes that are drained."""

from __future__ import annotations

import subprocess

import pytest

from miniml.cluster.inference_service import MODEL_DIGEST
from miniml.model.classifier import Classifier
from miniml.resource_names import NAMESPACE
from tests.e2e.cluster import (
    SETTINGS,
    Submission,
    inference_service,
    kubectl,
    log_of,
    looked_up,
    steps_of,
    submit,
    wait_until,
)

pytestmark = pytest.mark.cluster

# Of the processes of a step, the one that has torch trains; the one that watches over it has none.
KILL_TRAINING = """
import os, signal
from pathlib import Path
for maps in Path("/proc").glob("[0-9]*/maps"):
    try:
        trains = "libtorch" in maps.read_text()
    except OSError:
        continue
    if trains:
        os.kill(int(maps.parent.name), signal.SIGKILL)
"""
LONG = ("--iterations", "300", "--dry-run")
"""A training of some minutes, of which nothing is deployed."""


def trains(submission: Submission) -> str:
    """The run's id, once its training has taken some steps."""
    wait_until(lambda: "runs/details/" in submission.output, "the run's id")
    run = (
        next(line for line in submission.lines if "runs/details/" in line)
        .split("runs/details/")[1]
        .split()[0]
    )
    wait_until(lambda: "samples/s" in log_of(run, "train") or not submission.running, "its training")
    assert submission.running, submission.output
    return run


def test_a_training_that_is_killed_goes_on_from_its_checkpoint() -> None:
    submission = Submission(*LONG, "--checkpoint-interval", "0", "--seed", str(SETTINGS.seed + 30))
    run = trains(submission)
    pod = steps_of(run, "train")[-1]["metadata"]["name"]
    kubectl("exec", pod, "-c", "main", "--", "python3", "-c", KILL_TRAINING, namespace=NAMESPACE)
    assert submission.finish().status == 0
    log = log_of(run, "train")
    assert "the training died (killed by SIGKILL" in log
    assert "continuing from step" in log
    assert len(steps_of(run, "train")) == 1, "the step itself goes on, for KFP would not run it again"


def test_a_training_that_wants_more_memory_than_it_gets_goes_on_with_smaller_batches() -> None:
    heavy = ("--batch-size", "256", "--max-length", "256", "--iterations", "6", "--train-memory", "1800Mi")
    submission = Submission("--dry-run", *heavy, "--seed", str(SETTINGS.seed + 34))
    ended = submission.finish()
    log = log_of(ended.run_id, "train")
    assert "for want of memory" in log
    assert "with batches of 128" in log
    assert ended.status == 0


def test_a_training_that_is_done_is_not_done_again_where_the_store_was_away() -> None:
    """The launcher gives up within milliseconds where the store does not take the model; the next run finds it."""
    words = (*LONG, "--iterations", "60", "--seed", str(SETTINGS.seed + 31))
    submission = Submission(*words)
    run = trains(submission)
    wait_until(lambda: "trained:" in log_of(run, "train"), "the end of the training")
    kubectl("rollout", "restart", "deployment/seaweedfs", namespace=NAMESPACE)
    first = submission.finish()
    kubectl("rollout", "status", "deployment/seaweedfs", namespace=NAMESPACE)
    again = submit(*words)
    assert again.status == 0
    if first.status != 0:
        assert "samples/s" not in log_of(again.run_id, "train")


def test_a_deployment_waits_for_kserve_s_webhook(first: Classifier) -> None:
    before = inference_service()["metadata"]["annotations"][MODEL_DIGEST]
    controller = "deployment/kserve-controller-manager"
    submission = Submission("--seed", str(SETTINGS.seed + 32))
    run = trains(submission)
    kubectl("scale", controller, "--replicas=0", namespace="kserve")
    try:
        wait_until(
            lambda: "waiting for up to" in log_of(run, "deploy"), "deploy to meet a webhook that is away"
        )
    finally:
        kubectl("scale", controller, "--replicas=1", namespace="kserve")
    assert submission.finish().status == 0
    assert inference_service()["metadata"]["annotations"][MODEL_DIGEST] != before


def test_what_kserve_once_could_not_do_is_not_held_against_the_next_version(first: Classifier) -> None:
    """A runtime that is not there leaves a lastFailureInfo, which KServe never clears."""
    name = SETTINGS.service
    runtime = inference_service()["spec"]["predictor"]["model"]["runtime"]
    patch = '{"spec": {"predictor": {"model": {"runtime": "%s"}}}}'
    kubectl("patch", "inferenceservice", name, "--type=merge", "-p", patch % "miniml-nowhere")
    failure = "{.status.modelStatus.lastFailureInfo.reason}"
    wait_until(
        lambda: kubectl("get", "inferenceservice", name, "-o", f"jsonpath={failure}"),
        "KServe's refusal of it",
    )
    kubectl("patch", "inferenceservice", name, "--type=merge", "-p", patch % runtime)
    assert submit("--seed", str(SETTINGS.seed + 35)).status == 0


def test_a_service_has_a_budget_of_its_own_which_goes_with_it(first: Classifier) -> None:
    service = inference_service()
    budget = looked_up("poddisruptionbudget", f"{SETTINGS.service}-predictor")
    assert [owner["uid"] for owner in budget["metadata"]["ownerReferences"]] == [service["metadata"]["uid"]]
    assert budget["status"]["expectedPods"] >= 1


def _knows_train_jobs() -> bool:
    found = subprocess.run(["kubectl", "get", "crd", "trainjobs.trainer.kubeflow.org"], capture_output=True)
    return found.returncode == 0


def test_a_node_that_is_taken_away_politely_does_not_end_the_training() -> None:
    if not _knows_train_jobs():
        pytest.skip("this cluster has no Kubeflow Trainer")
    options = ("--num-nodes", "2", "--checkpoint-interval", "0", "--seed", str(SETTINGS.seed + 33))
    submission = Submission(*LONG, *options)
    run = trains(submission)
    nodes = looked_up("pods", "-l", "jobset.sigs.k8s.io/replicatedjob-name=node", namespace=NAMESPACE)[
        "items"
    ]
    kubectl("delete", "pod", nodes[-1]["metadata"]["name"], "--wait=false", namespace=NAMESPACE)
    assert submission.finish().status == 0
    assert "continuing from step" in log_of(run, "train")
