"""Every command in the README is run, and does what the README says."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from miniml.ports import HTTP_PORT
from miniml.resource_names import KIND_HOST
from tests import patience, tiny
from tests.command import ROOT
from tests.ports import free_port
from tests.s3_server import WRITER, S3Server

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    " ".join(command.replace("\\\n", " ").split())
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for command in re.split(r"(?<!\\)\n", block.strip())
]
CLUSTER_COMMANDS = [
    "make cluster",
    f"export KFP_HOST={KIND_HOST}",
    "make submit",
    "make predict",
    "make cluster-delete",
]
PIPELINE = ".venv/bin/miniml"
SHORT = "--max-length 48 --iterations 8"
"""What makes a command's training take seconds on any machine: its words are what is tried, not its accuracy."""
SEARCH = ".venv/bin/miniml search"

pytestmark = pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="make's targets run in .venv: use make test"
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


# These tests run under `make test`, and the make that they start is none of its children.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS")}


def run(command: str, outputs: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env={**ENVIRONMENT, "MINIML_OUTPUTS": str(outputs), **environment},
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )


def command_with(words: str) -> str:
    [command] = [command for command in COMMANDS if words in command]
    return command


@pytest.fixture(scope="module")
def served(outputs: Path) -> Any:
    """The summary of `make run`, on few rows, short texts and few steps: .ci/run runs it in full."""
    ended = run(
        "make run", outputs, ARGS=f"--preset demo --max-rows 300 {SHORT} --min-accuracy 0 --no-beat-baseline"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads((outputs / "latest" / "summary.json").read_text())


@contextmanager
def serving(outputs: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        ["make", "serve"],
        cwd=ROOT,
        env={**ENVIRONMENT, "MINIML_OUTPUTS": str(outputs), "PORT": str(port)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        patience.wait_until(lambda: is_ready(port, process))
        yield f"localhost:{port}"
    finally:
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches everything in the foreground
        process.wait(timeout=patience.SECONDS)


def is_ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "make serve ended"
    try:
        ready = f"http://127.0.0.1:{port}/v2/models/movie-reviews/ready"
        return requests.get(ready, timeout=patience.SECONDS).ok
    except requests.ConnectionError:
        return False


def test_these_are_all_its_commands() -> None:
    shortened = [
        re.split(r" --| -d | ARGS=| TEXT=| publish| list| fetch", command)[0] for command in COMMANDS
    ]
    assert shortened == [
        "make run",  # `served`, and in full by .ci/run
        "make test",  # these tests
        "make serve",
        f"curl -s localhost:{HTTP_PORT}/predict",
        f"{PIPELINE} run",  # the drug reviews
        f"{PIPELINE} run",  # the defaults, which tests/sources/test_hub.py runs against a hub
        "make search",  # the preset of tests/search/test_search_pipeline.py
        f"{SEARCH} run",  # tests/search/test_search_pipeline.py
        f"{PIPELINE} run",  # with every rule of the gate
        "make images",  # .ci/run
        "make run RUNNER=docker",  # tests/manifests/test_images.py
        *4 * [".venv/bin/miniml store"],
        *CLUSTER_COMMANDS,
    ]


def test_make_test_runs_the_tests(outputs: Path) -> None:
    assert "-m pytest" in run("make --dry-run test", outputs).stdout


@pytest.mark.parametrize("command", [name for name in CLUSTER_COMMANDS if name.startswith("make")])
def test_a_command_for_a_cluster_is_one_that_make_knows(command: str, outputs: Path) -> None:
    """They are run by `make e2e`, on a cluster."""
    assert run(f"make --dry-run {command.removeprefix('make ')}", outputs).returncode == 0


def test_a_submission_for_the_cluster_is_one_that_the_pipeline_takes(outputs: Path) -> None:
    """All that is wrong with it is that there is no cluster."""
    ended = run(command_with("make submit"), outputs, KFP_HOST=f"http://127.0.0.1:{free_port()}")
    assert "no Kubeflow Pipelines answers" in ended.stderr


def test_the_store_takes_and_gives_what_it_says(served: Any, outputs: Path, s3_server: S3Server) -> None:
    for bucket in ("data", "models"):
        s3_server.client().make_bucket(bucket)
    tiny.write_reviews(outputs / "reviews.csv")
    access, secret = WRITER
    keys = {"AWS_ENDPOINT_URL": s3_server.url, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    for command in COMMANDS:
        if "miniml store" in command:
            here = command.replace("local_outputs", str(outputs))
            here = here.replace(" reviews.csv", f" {outputs}/reviews.csv").replace(
                " fetched", f" {outputs}/fetched"
            )
            ended = run(here, outputs, **keys)
            assert ended.returncode == 0, ended.stderr
    given = json.loads((outputs / "fetched" / "miniml.json").read_text())
    assert given == json.loads((outputs / "latest" / "model" / "miniml.json").read_text())


def test_make_help_lists_every_target(outputs: Path) -> None:
    listed = run("make help", outputs).stdout
    targets = re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) >= {"run", "serve", "test", "check", "compile", "help"}
    assert [line.split()[0] for line in listed.splitlines()] == targets


def test_the_request_gets_an_answer_of_the_shape_shown(served: Any, outputs: Path) -> None:
    words = shlex.split(command_with("curl"))
    shown = json.loads(re.findall(r"^```json\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[0])
    with serving(outputs) as host:
        address = words[2].replace(f"localhost:{HTTP_PORT}", host)
        form = {"content-type": "application/x-www-form-urlencoded"}  # what a bare `curl -d` says
        answer = requests.post(
            f"http://{address}", data=words[4], headers=form, timeout=patience.SECONDS
        ).json()
    assert answer.keys() == shown.keys()
    assert answer["probabilities"].keys() == shown["probabilities"].keys()
    assert answer["score"] == max(answer["probabilities"].values())


def test_the_drug_reviews_go_through_the_same_pipeline(tmp_path: Path) -> None:
    ended = run(f"{command_with('drugsCom.zip')} {SHORT} --min-accuracy 0", tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text())
    assert (summary["train_rows"], summary["test_rows"]) == (540, 200)
    for answer in summary["predictions"]:
        assert answer["probabilities"].keys() == {"negative", "neutral", "positive"}


def test_the_gate_judges_by_every_rule_that_is_shown(served: Any, outputs: Path) -> None:
    command = command_with("--champion").replace("local_outputs/latest/model", served["model_dir"])
    ended = run(f"{command} --max-rows 300 {SHORT}", outputs)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    reasons = " ".join(json.loads((outputs / "latest" / "summary.json").read_text())["reasons"])
    for words in (
        "min_accuracy",
        "macro_f1",
        "mcc",
        "max_calibration_error",
        "min_slice_accuracy",
        "baseline",
    ):
        assert words in reasons
    assert "champion" in reasons


def test_the_error_shown_is_the_error_given(outputs: Path) -> None:
    shown = " ".join(re.findall(r"^```text\nerror: (.*?)^```", README, re.MULTILINE | re.DOTALL)[0].split())
    wrong = command_with("drugsCom.zip").replace("--label-column rating", "")
    given = " ".join(run(wrong, outputs).stderr.split())
    assert shown in given


@pytest.mark.skipif("MINIML_EXPECT_DEMO" not in os.environ, reason="holds what `make run` left in .ci/run")
def test_the_main_job_kept_its_promises() -> None:
    summary = json.loads((ROOT / "local_outputs" / "latest" / "summary.json").read_text())
    assert summary["accuracy"] >= 0.78
    assert any("the baseline has accuracy" in reason for reason in summary["reasons"])
    assert summary["test_rows"] >= 1000
    assert summary["verdict"] == "approved"
    assert [answer["label"] for answer in summary["predictions"]] == ["positive", "negative"]
