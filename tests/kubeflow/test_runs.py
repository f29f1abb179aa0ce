"""Runs on a cluster are listed, found by a part of their id, and cancelled; schedules are looked after alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from miniml.cli import main
from miniml.resource_names import PIPELINE_ACCOUNT
from tests.argo_workflow import pod_name
from tests.kfp_runs import uuid_of
from tests.kfp_server import KfpServer

Command = Callable[..., str]
OLD, NEW, OTHER = uuid_of("old"), uuid_of("new"), uuid_of("another pipeline's")


def a_run(
    run_id: str, name: str, day: int, state: str = "SUCCEEDED", pipeline: str = "pipeline-0"
) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "display_name": name,
        "state": state,
        "created_at": f"2026-01-{day:02}T00:00:00Z",
        "pipeline_version_reference": {"pipeline_id": pipeline, "pipeline_version_id": "version-0"},
        "runtime_config": {"parameters": {"service_name": f"{name}-service"}},
    }


@pytest.fixture
def server() -> Iterator[KfpServer]:
    with KfpServer() as running:
        running.pipelines = {"text-classification": "pipeline-0"}
        running.listed = [
            a_run(OLD, "old", 1),
            a_run(OTHER, "other", 2, pipeline="pipeline-9"),
            a_run(NEW, "new", 3, state="RUNNING"),
        ]
        yield running


@pytest.fixture
def command(
    server: KfpServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`miniml WORDS` in this process: what it prints, its errors too."""
    monkeypatch.setenv("KFP_HOST", server.url)

    def run(*words: str, status: int = 0) -> str:
        ended = 0
        try:
            main.main(words)
        except SystemExit as error:
            ended = int(error.code or 0)
        printed = capsys.readouterr()
        assert ended == status, printed.out + printed.err
        return printed.out + printed.err

    return run


def scheduled(command: Command, name: str, *words: str) -> None:
    command("schedule", "--name", name, "--cron", "0 3 * * 1", "--iterations=7", *words)


def test_a_pipelines_runs_are_listed_newest_first(command: Command) -> None:
    heading, *rows = command("runs").splitlines()
    assert heading.split() == ["id", "state", "created", "service", "name"]
    assert [row.split()[:2] for row in rows] == [[NEW, "running"], [OLD, "succeeded"]]
    assert rows[0].split()[-2:] == ["new-service", "new"]
    assert len(command("runs", "--limit=1").splitlines()) == 2


def test_programs_get_the_list_as_json(command: Command) -> None:
    [newest, _] = json.loads(command("runs", "--json"))
    assert (newest["id"], newest["created"]) == (NEW, "2026-01-03 00:00:00+00:00")


def test_more_runs_than_one_answer_holds_are_listed(server: KfpServer, command: Command) -> None:
    server.listed = [a_run(uuid_of(str(number)), f"run {number}", 1 + number % 28) for number in range(230)]
    assert len(command("runs", "--limit=225").splitlines()) == 226


def test_where_nothing_has_run_that_is_said(server: KfpServer, command: Command) -> None:
    server.pipelines = {}
    assert "no run of text-classification yet" in command("runs")
    assert "no schedule of text-classification" in command("schedules", "list")


@pytest.mark.parametrize("given", [NEW, NEW[:8], "new", "latest"])
def test_a_run_is_cancelled_by_id_a_part_of_it_name_or_as_the_latest(
    server: KfpServer, command: Command, given: str
) -> None:
    assert f"cancelling run {NEW}" in command("cancel", given)
    assert server.listed[2]["state"] == "CANCELING"


def test_a_run_that_has_ended_is_not_cancelled(command: Command) -> None:
    assert f"run {OLD} does not go on: it is SUCCEEDED" in command("cancel", "old", status=1)
    assert f"run {NEW} does not go on: it is CANCELING" in command("cancel", "new") + command(
        "cancel", "new", status=1
    )


def test_a_run_that_is_not_there_is_told(command: Command) -> None:
    output = command("cancel", "nobodys", status=1)
    assert "answers 404: Run nobodys not found" in output
    assert "Traceback" not in output


def test_the_host_may_stand_before_what_is_done_to_a_schedule(server: KfpServer, command: Command) -> None:
    scheduled(command, "weekly")
    with KfpServer() as another:
        assert "no schedule of" in command("schedules", "--host", another.url)
        assert "has no schedule" in command("schedules", "--host", another.url, "delete", "weekly", status=1)
    assert server.schedules


def test_no_run_is_meant_by_nothing(server: KfpServer, command: Command) -> None:
    server.listed = server.listed[2:]
    assert "no run is named" in command("cancel", "", status=1)
    assert server.listed[0]["state"] == "RUNNING"


def test_a_name_stays_on_its_line_of_the_table(server: KfpServer, command: Command) -> None:
    server.listed[2]["display_name"] = "two\nlines\x1b[31m"
    assert r"two\x0alines\x1b[31m" in command("runs").splitlines()[1]


def test_an_archived_run_is_not_listed(server: KfpServer, command: Command) -> None:
    server.listed[2]["storage_state"] = "ARCHIVED"
    assert NEW not in command("runs")


def test_a_part_of_several_ids_is_refused_with_all_of_them(server: KfpServer, command: Command) -> None:
    server.listed.append(a_run(uuid_of("again"), "new", 4))
    output = command("cancel", "new", status=1)
    assert NEW in output
    assert uuid_of("again") in output


def test_the_log_of_the_step_that_failed_is_printed_or_of_any_that_is_named(
    server: KfpServer, command: Command
) -> None:
    server.listed = []
    server.looks, server.end = [{"preflight": "SUCCEEDED", "transform": "FAILED"}], "FAILED"
    server.logs = {pod_name("preflight"): "all is well", pod_name("transform"): "error: no such file"}
    assert command("logs", "run-0") == "error: no such file\n"
    assert command("logs", "run-0", "preflight") == "all is well\n"
    assert 'no stage "transfrom"; it has: preflight' in command("logs", "run-0", "transfrom", status=1)
    server.looks = [{}]
    assert "no step of run run-0 has begun" in command("logs", "run-0", status=1)


def test_schedules_are_listed_paused_resumed_and_deleted(server: KfpServer, command: Command) -> None:
    scheduled(command, "weekly", "--service-name=reviews")
    [row] = command("schedules", "list").splitlines()[1:]
    assert row.split()[1] == "on"
    assert "0 0 3 * * 1" in row
    assert row.endswith("reviews  weekly")
    assert "paused 'weekly'" in command("schedules", "pause", "weekly")
    assert command("schedules", "list").splitlines()[1].split()[1] == "paused"
    command("schedules", "resume", server.schedules[0]["recurring_run_id"][:6])
    assert server.schedules[0]["status"] == "ENABLED"
    assert "deleted 'weekly'" in command("schedules", "delete", "weekly")
    assert server.schedules == []
    assert "has no schedule 'weekly'" in command("schedules", "pause", "weekly", status=1)


def test_a_changed_schedule_takes_the_old_ones_place_and_keeps_what_was_not_changed(
    server: KfpServer, command: Command
) -> None:
    scheduled(command, "weekly", "--pipeline-account=mine")
    command("schedules", "pause", "weekly")
    [old] = server.schedules
    uploads = len(server.uploads)
    assert f"takes the place of {old['recurring_run_id']}" in command(
        "schedules", "change", "weekly", "--cron", "@daily"
    )
    [new] = server.schedules
    assert new["trigger"]["cron_schedule"]["cron"] == "@daily"
    assert new["status"] == "DISABLED"
    assert len(server.uploads) == uploads
    same = ("display_name", "runtime_config", "service_account", "no_catchup", "pipeline_version_reference")
    assert [new[name] for name in same] == [old[name] for name in same]
    command("schedules", "change", "weekly", "--iterations=9", "--service-name=other")
    [new] = server.schedules
    arguments = new["runtime_config"]["parameters"]
    assert (arguments["iterations"], arguments["service_name"]) == (9, "other")
    assert arguments["max_length"] == old["runtime_config"]["parameters"]["max_length"]
    assert new["trigger"]["cron_schedule"]["cron"] == "@daily"


def test_a_version_s_page_in_the_ui_says_which_account_its_runs_need(
    server: KfpServer, command: Command
) -> None:
    scheduled(command, "weekly")
    assert f"service account {PIPELINE_ACCOUNT}" in server.versions[-1]["description"]


def test_where_the_old_schedule_stays_both_are_named(server: KfpServer, command: Command) -> None:
    scheduled(command, "weekly")
    server.refuse_to_delete = True
    output = command("schedules", "change", "weekly", "--cron=@daily", status=1)
    assert f"schedules delete {server.schedules[0]['recurring_run_id']}" in output
    assert server.schedules[1]["recurring_run_id"] in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedules", "change", "weekly"], "nothing is to be changed"),
        (["schedules", "change", "weekly", "--cron=61 * * * *"], "'61' is no time"),
        (["schedules", "change", "weekly", "--batch-size=0"], "batch_size is 0"),
        (["schedules", "change", "weekly", "--dataset-id=s3://bucket"], "names a bucket, and nothing in it"),
        (["schedule", "--cron=0 3 * * 7"], "Sunday is 0"),
        (["schedule", "--cron=@daily", "--name= "], "--name"),
        (["schedule", "--cron=@daily", "--pipeline-account=No Account"], "--pipeline-account"),
        (["submit", "--experiment=x\n"], "--experiment"),
        (["submit", "--dataset-id=s3://bucket/"], "names a bucket, and nothing in it"),
        (["submit", "--host=ftp://localhost"], "--host"),
    ],
)
def test_what_can_be_known_to_fail_changes_nothing(
    server: KfpServer, command: Command, words: list[str], message: str
) -> None:
    scheduled(command, "weekly")
    before = (len(server.uploads), list(server.schedules), list(server.runs))
    said = command(*words, status=1)
    assert message in said
    assert len(said) < 700
    assert (len(server.uploads), server.schedules, server.runs) == before
