"""What answers in the place of Kubeflow Pipelines, or otherwise than it does: told in a line, and never believed."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from miniml.kubeflow import runs, schedules
from miniml.kubeflow.submission import Server, SubmissionError
from miniml.kubeflow.workflow import stages_from_workflow, was_terminated
from miniml.pipeline.compiled import TEXT_CLASSIFICATION, CompiledPipeline
from tests.argo_workflow import Moment, workflow
from tests.http_server import JsonHandler, LocalServer

RUN = "0123abcd-0000-4000-8000-000000000001"
LOGIN = "<!doctype html><html><title>Log in</title></html>"
Answer = tuple[int, Any]


class OddServer(LocalServer):
    """Says that it is Kubeflow Pipelines, and then answers everything as a test has it."""

    def __init__(self) -> None:
        self.answer: Answer | Callable[[str], Answer] = (200, {})

    def handler(self) -> type[JsonHandler]:
        odd = self

        class Handler(JsonHandler):
            def answer(self, method: str) -> None:
                self.read_body()
                if self.path.endswith("/healthz"):
                    self.send_answer(200, {"apiServerReady": True, "multi_user": False})
                else:
                    self.send_answer(*(odd.answer(self.path) if callable(odd.answer) else odd.answer))

        return Handler


@pytest.fixture
def odd() -> Iterator[OddServer]:
    with OddServer() as running:
        yield running


DONE_WITH_A_SERVER: dict[str, Callable[[Server], object]] = {
    "cancel": lambda server: runs.cancel(server, RUN),
    "runs": lambda server: list(runs.runs_of(server, "text-classification")),
    "schedules": lambda server: list(schedules.schedules_of(server, "text-classification")),
    "upload": lambda server: server.upload(CompiledPipeline.named(TEXT_CLASSIFICATION)),
    "look": lambda server: server.look(RUN, ["train"]),
}


@pytest.mark.parametrize("done", DONE_WITH_A_SERVER.values(), ids=list(DONE_WITH_A_SERVER))
@pytest.mark.parametrize("page", [LOGIN, "", "null", "[1]", '{"runs": [{"run'], ids=repr)
def test_a_page_to_log_in_at_is_no_answer(
    odd: OddServer, page: str, done: Callable[[Server], object]
) -> None:
    odd.answer = (200, page)
    with pytest.raises(SubmissionError, match=r"answers what Kubeflow Pipelines would not.*KFP_TOKEN"):
        done(Server.connect(odd.url, retry_after=()))


def test_a_redirect_is_told_and_not_followed(odd: OddServer) -> None:
    odd.answer = (302, LOGIN)
    with pytest.raises(SubmissionError, match=r"answers 302: .*It sends us elsewhere"):
        runs.cancel(Server.connect(odd.url, retry_after=()), RUN)


@pytest.mark.parametrize("page", ["<html>" + "x" * 100_000, '["' + "x" * 100_000 + '"]', "\x1b[2J\n" * 9_999])
def test_a_refusal_is_told_in_a_line(odd: OddServer, page: str) -> None:
    odd.answer = (403, page)
    with pytest.raises(SubmissionError) as refused:
        runs.cancel(Server.connect(odd.url, retry_after=()), RUN)
    assert len(str(refused.value)) < 800
    assert str(refused.value).isprintable()


def test_two_pipelines_of_one_name_are_told(odd: OddServer) -> None:
    twice = [{"pipeline_id": number, "display_name": "text-classification"} for number in "ab"]
    odd.answer = (200, {"pipelines": twice})
    with pytest.raises(SubmissionError, match="Multiple pipelines with the name: text-classification"):
        list(runs.runs_of(Server.connect(odd.url, retry_after=()), "text-classification"))


def test_pages_that_never_end_are_not_turned_for_ever(odd: OddServer) -> None:
    pipelines = {"pipelines": [{"pipeline_id": "a", "display_name": "text-classification"}]}
    odd.answer = lambda path: (200, {"next_page_token": "again"} if "runs" in path else pipelines)
    server = Server.connect(odd.url, retry_after=())
    for listed in (runs.runs_of, schedules.schedules_of):
        with pytest.raises(SubmissionError, match="the same page again and again"):
            list(listed(server, "text-classification"))


def test_a_schedule_without_times_is_listed(odd: OddServer) -> None:
    one = {"recurring_run_id": "s", "pipeline_version_reference": {"pipeline_id": "a"}}
    pipelines = {"pipelines": [{"pipeline_id": "a", "display_name": "text-classification"}]}
    odd.answer = lambda path: (200, {"recurringRuns": [one]} if "recurringruns" in path else pipelines)
    [schedule] = schedules.schedules_of(Server.connect(odd.url), "text-classification")
    assert schedule.when() == ""


def _packed(content: bytes) -> dict[str, Any]:
    return {"status": {"compressedNodes": base64.b64encode(content).decode()}}


UNREADABLE: dict[str, dict[str, Any]] = {
    "no base64": {"status": {"compressedNodes": "!!!"}},
    "no gzip": _packed(b"hello"),
    "half a gzip": _packed(gzip.compress(bytes(range(256)) * 9)[:-12]),
    "a gzip of no JSON": _packed(gzip.compress(b"hello")),
    "a gzip bomb": _packed(gzip.compress(b" " * 2**27, compresslevel=1)),
    "a list": {"status": {"nodes": [1]}},
    "nothing": {"status": {"nodes": {"a": None}}},
    "other types": {"status": [1], "metadata": None, "spec": [1]},
}


@pytest.mark.parametrize("manifest", UNREADABLE.values(), ids=list(UNREADABLE))
def test_a_workflow_that_cannot_be_read_leaves_the_tasks_to_be_asked(manifest: dict[str, Any]) -> None:
    assert stages_from_workflow(manifest, ["train"]) is None
    assert not was_terminated(manifest)


def test_a_node_of_another_kind_leaves_the_others_readable() -> None:
    manifest = workflow(Moment({"train": "SUCCEEDED"}))
    stages = stages_from_workflow(manifest, ["train"])
    odd = {"id": 5, "type": "Alien", "phase": ["x"], "startedAt": "yesterday", "message": {}}
    named = {
        "id": "n",
        "name": f"train({'9' * 5000}:x)",
        "displayName": None,
        "startedAt": "2026-01-01T00:00:00",
    }
    manifest["status"]["nodes"] |= {"odd": odd, "none": None, "empty": {}, "named": named}
    assert stages_from_workflow(manifest, ["train"]) == stages


@pytest.mark.parametrize("manifest", ["<html>", "null", "[1]", '"x"', "[" * 99_999], ids=len)
def test_a_manifest_that_is_no_object_is_not_believed(
    odd: OddServer, manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    run = {"run_id": RUN, "state": "SUCCEEDED", "pipeline_runtime": {"workflow_manifest": manifest}}
    odd.answer = (200, run)
    seen = Server.connect(odd.url).look(RUN, ["train"])
    assert (seen.state, seen.stages.turns) == ("SUCCEEDED", [])
