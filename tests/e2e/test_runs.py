"""What a person is told of runs: of errors, searches, cancelled runs and schedules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miniml.cluster.inference_service import RUN
from miniml.kubeflow.submission import Server
from miniml.kubeflow.workflow_size import workflow_size
from miniml.model.classifier import Classifier
from miniml.pipeline.compiled import TEXT_CLASSIFICATION, CompiledPipeline
from miniml.resource_names import NAMESPACE, PIPELINE_ACCOUNT
from tests.e2e.cluster import (
    BUCKET,
    SETTINGS,
    Submission,
    inference_service,
    kubectl,
    log_of,
    looked_up,
    miniml,
    publish,
    submit,
    wait_until,
    write_reviews,
)

pytestmark = pytest.mark.cluster


def test_a_step_s_own_error_reaches_whoever_submitted() -> None:
    ended = submit("--dry-run", "--text-column", "nosuch", "--seed", str(SETTINGS.seed + 20))
    assert ended.status != 0
    assert "column 'nosuch' is not in" in ended.output
    assert "Set text_column." in ended.output


def test_a_step_that_finds_no_node_is_told_while_it_waits_and_can_be_cancelled() -> None:
    # More of them than any node has.
    gpus = ("--train-gpus", "900", "--device", "cuda")
    submission = Submission("--dry-run", *gpus, "--seed", str(SETTINGS.seed + 21))
    wait_until(
        lambda: "Insufficient nvidia.com/gpu" in submission.output, "the reason why train finds no node"
    )
    run = Path(next(line for line in submission.lines if "runs/details/" in line).split()[-1]).name
    assert miniml("cancel", run).status == 0
    ended = submission.finish()
    assert ended.status != 0
    assert "cancelled" in ended.output.lower()


def test_a_misspelt_option_is_refused_with_the_name_that_was_meant() -> None:
    """As the form of the UI sends it, which looks at no name."""
    server = Server.connect(SETTINGS.host)
    given = {"options": {"dropuot": 0.1}, "service_name": SETTINGS.service, "dry_run": True}
    version = server.upload(CompiledPipeline.named(TEXT_CLASSIFICATION))
    run_id = server.start(version, given, name="a misspelt option", service_account=PIPELINE_ACCOUNT)
    ended = miniml("follow", run_id)
    assert ended.status != 0
    assert "Did you mean 'dropout'?" in ended.output


def test_only_what_a_changed_argument_touches_is_done_again(first: Classifier) -> None:
    ended = submit("--seed", str(SETTINGS.seed), "--min-gain", "0.01", "--dry-run")
    assert ended.status == 0
    for stage in ("transform", "train"):
        assert f"{stage} · unchanged, taken from the cache" in ended.output


def test_the_record_of_a_run_is_as_large_as_make_compile_says(first: Classifier) -> None:
    run_id = inference_service()["metadata"]["labels"][RUN]
    [workflow] = looked_up("workflows", "-l", f"pipeline/runid={run_id}", namespace=NAMESPACE)["items"]
    expected = workflow_size(CompiledPipeline.named(TEXT_CLASSIFICATION).text).total
    assert len(json.dumps(workflow)) == pytest.approx(expected, rel=0.25)


def test_a_search_is_told_trial_by_trial_and_as_it_ended() -> None:
    space = json.dumps({"learning_rate": [1e-5, 1e-4, 1e-3], "batch_size": [8, 16]})
    search = Submission(
        *("--space", space, "--trials", "6", "--no-stop-early", "--seed", str(SETTINGS.seed + 22)),
        pipeline="search",
    ).finish()
    assert search.status == 0
    for trial in range(2, 7):
        assert f"train ({trial}) · succeeded" in search.output
    assert search.output.rstrip().endswith("succeeded: deployed")


def test_a_scheduled_run_reads_what_its_source_is_by_then(tmp_path: Path) -> None:
    name, address = f"{SETTINGS.service}-schedule", f"s3://{BUCKET}/e2e/changing@latest"
    write_reviews(tmp_path / "changing.csv", 1000, 1200)
    publish(tmp_path / "changing.csv", "e2e/changing@latest")
    words = ("--dataset-id", address, "--max-rows", "0", "--dry-run", "--name", name, "--cron", "*/5 * * * *")
    model = f"s3://{BUCKET}/e2e/minilm@v1"
    small = ("--model-id", model, "--iterations", "2", "--max-length", "32", "--min-accuracy", "0")
    assert miniml("schedule", *words, *small).status == 0
    try:
        wait_until(lambda: _transformed(name, 1), "the first scheduled run's transform")
        write_reviews(tmp_path / "changing.csv", 2000, 2300)
        publish(tmp_path / "changing.csv", "e2e/changing@latest")
        wait_until(lambda: _transformed(name, 2), "a later run's transform, which reads 300 rows")
    finally:
        assert miniml("schedules", "delete", name).status == 0


def _transformed(name: str, version: int) -> bool:
    """Whether some run of the schedule made a dataset of all rows of that version."""
    rows = {1: 200, 2: 300}[version]
    listed = json.loads(miniml("runs", "--json").output)
    of_schedule = [run["id"] for run in listed if name in run["name"]]
    return any(f"of {rows}" in log or f"{rows} rows" in log for log in map(_log, of_schedule))


def _log(run_id: str) -> str:
    return log_of(run_id, "transform")


def test_nothing_of_the_tests_is_scheduled_any_more() -> None:
    assert SETTINGS.service not in kubectl("get", "scheduledworkflows", "-o", "name", namespace=NAMESPACE)
