"""The whole way on a real cluster: `make e2e` runs this against the current kube context, whichever cluster that is.

The tests build on each other, in this order: what serves in one is what the next one replaces. The environment says
what is not as `make cluster` makes it:

KFP_HOST            the UI or the API of Kubeflow Pipelines (http://localhost:8880)
NAMESPACE           where to serve (kubeflow)
MINIML_REGISTRY     where the cluster pulls our images from, and
MINIML_IMAGE_TAG    their tag
E2E_ARGUMENTS       which data and model to train, as options of `submit`; the default's are small ones of the hub
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import kfp
import pytest
import requests
from minio import Minio

from miniml import manifest
from miniml.classifier import Classifier, Prediction
from miniml.images import image
from miniml.inference_service import MODEL_DIGEST, RUN
from miniml.installation import NAMESPACE, S3_SECRET
from pipelines.ask import free_port
from pipelines.text_classification import text_classification
from tests.command import ROOT

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        os.environ.get("MINIML_E2E") != "1", reason="changes the current kube context's cluster: run make e2e"
    ),
]

TEXTS = [
    "A wonderful film, I would gladly watch it again.",
    "Two hours of my life that I will never get back.",
]
TOLERANCE = 0.02
"""Of a probability: another processor rounds otherwise, and another model differs by far more."""


@dataclass(frozen=True)
class Settings:
    """The cluster, and what to train on it."""

    host: str = os.environ.get("KFP_HOST", "http://localhost:8880")
    namespace: str = os.environ.get("NAMESPACE", NAMESPACE)
    service: str = f"e2e-{int(time.time()) % 1_000_000}"
    arguments: str = os.environ.get(
        "E2E_ARGUMENTS",
        "--dataset-id cornell-movie-review-data/rotten_tomatoes --model-id sentence-transformers/all-MiniLM-L6-v2 "
        "--max-rows 400 --max-length 64 --iterations 20 --batch-size 8 --min-accuracy 0",
    )
    seed: int = field(default_factory=lambda: int(time.time()) % 1_000_000)
    """New each time, so that nothing comes from KFP's cache."""


SETTINGS = Settings()


def kubectl(*words: str) -> str:
    """What kubectl prints; CalledProcessError has its complaint."""
    command = ["kubectl", "--namespace", SETTINGS.namespace, *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def inference_service() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "inferenceservice", SETTINGS.service, "-o", "json"))
    return found


def served_digest() -> str:
    return str(inference_service()["metadata"]["annotations"][MODEL_DIGEST])


def submit(*options: str) -> int:
    """Trains and deploys, following the run to its end; the exit status says how it came out."""
    words = [sys.executable, "-m", "pipelines.text_classification", "submit", "--host", SETTINGS.host]
    # What a few steps of training make is no better than what they made before: only one test asks for a champion.
    ours = ["--service-name", SETTINGS.service, "--namespace", SETTINGS.namespace, "--champion", "none"]
    # Two at once, while one replaces the other, must fit beside everything else on 4 CPUs.
    size = ["--cpu", "500m", "--memory", "1536Mi"]
    return subprocess.run(
        [*words, *shlex.split(SETTINGS.arguments), *ours, *size, *options], cwd=ROOT
    ).returncode


def newest_run() -> Any:
    """KFP's record of the last run that was to make our service."""
    runs = kfp.Client(host=SETTINGS.host).list_runs(sort_by="created_at desc", page_size=50).runs or []
    return next(run for run in runs if run.runtime_config.parameters.get("service_name") == SETTINGS.service)


@contextlib.contextmanager
def forwarded(target: str, port: int, namespace: str = SETTINGS.namespace) -> Iterator[str]:
    """host:port on this machine that leads to a Service of the cluster."""
    local = free_port()
    command = ["kubectl", "--namespace", namespace, "port-forward", target, f"{local}:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _accepts(local), 30, f"kubectl port-forward {target}")
        yield f"127.0.0.1:{local}"
    finally:
        process.terminate()
        process.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)


@contextlib.contextmanager
def store() -> Iterator[Minio]:
    """The store that the predictors read, with their credentials."""
    secret = json.loads(kubectl("get", "secret", S3_SECRET, "-o", "json"))
    key, password = (
        base64.b64decode(secret["data"][name]).decode()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )
    endpoint = secret["metadata"]["annotations"].get("serving.kserve.io/s3-endpoint", "s3.amazonaws.com")
    if endpoint.startswith("seaweedfs."):  # KFP's own has an address inside the cluster only
        with forwarded("service/seaweedfs", 9000, NAMESPACE) as address:
            yield Minio(address, key, password, secure=False)
    else:
        secure = secret["metadata"]["annotations"].get("serving.kserve.io/s3-usehttps") != "0"
        yield Minio(endpoint, key, password, secure=secure)


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


def artifacts_of(run_id: str, location: Location) -> dict[tuple[str, str], str]:
    """The key of each artifact that a run left, by its task and output: <root>/<run>/<task>/<uuid>/<output>."""
    pipeline = f"/{text_classification.name}/"
    root = location.prefix[: location.prefix.index(pipeline) + len(pipeline)]
    found = {}
    with store() as client:
        for entry in client.list_objects(location.bucket, f"{root}{run_id}/", recursive=True):
            key = entry.object_name or ""
            task, salt, output = key.removeprefix(f"{root}{run_id}/").split("/")[:3]
            found[task, output] = f"{root}{run_id}/{task}/{salt}/{output}"
    return found


def promised_artifacts() -> set[tuple[str, str]]:
    """The task and name of every artifact that the pipeline's stages declare."""
    spec = text_classification.pipeline_spec
    return {
        (name.removeprefix("comp-"), output)
        for name, component in spec.components.items()
        if component.executor_label
        for output in component.output_definitions.artifacts
    }


def in_metadata_store(uri: str) -> bytes:
    """What ML Metadata has recorded of an artifact, undecoded: its client does not install beside kfp's protobuf.

    GetArtifactsByURIRequest has one field, number 2, the address; gRPC-Web puts five bytes before a message.
    """
    request = b"\x12" + _varint(len(uri)) + uri.encode()
    with forwarded("service/metadata-envoy-service", 9090, NAMESPACE) as address:
        response = requests.post(
            f"http://{address}/ml_metadata.MetadataStoreService/GetArtifactsByURI",
            data=struct.pack(">BI", 0, len(request)) + request,
            headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
            timeout=30,
        )
    response.raise_for_status()
    return response.content


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def ask(path: str, body: dict[str, Any]) -> Any:
    """The service's answer, over its Service in the cluster."""
    with forwarded(f"service/{SETTINGS.service}-predictor", 80) as address:
        response = requests.post(f"http://{address}{path}", json=body, timeout=60)
    assert response.ok, response.text
    return response.json()


def assert_answers_like(answer: dict[str, Any], expected: Prediction) -> None:
    assert answer["label"] == expected.label
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=TOLERANCE)


# Runs in a pod, so that the requests take the way that any client of the service's takes. Every request has a
# connection of its own: one that is kept open would stay with an old pod until that closes it.
LOAD = """
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


@contextlib.contextmanager
def load() -> Iterator[Callable[[], dict[str, int]]]:
    """Asks the service without a pause, and tells how often that went well and how it failed."""
    pod = f"{SETTINGS.service}-load"
    url = f"http://{SETTINGS.service}-predictor.{SETTINGS.namespace}.svc.cluster.local/predict"
    words = ["run", pod, f"--image={image('deploy')}", "--restart=Never", "--command", "--"]
    kubectl(*words, "python3", "-c", LOAD, url)

    def outcome() -> dict[str, int]:
        lines = kubectl("logs", pod, "--tail=1").splitlines()
        counts: dict[str, int] = json.loads(lines[-1]) if lines else {}
        return counts

    try:
        kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=300s")
        wait_until(lambda: outcome().get("good", 0) > 0, 60, "the first answers under load")
        yield outcome
    finally:
        kubectl("delete", "pod", pod, "--now")


@pytest.fixture(scope="module", autouse=True)
def _clean_up() -> Iterator[None]:
    yield
    kubectl("delete", "inferenceservice", SETTINGS.service, "--ignore-not-found", "--timeout=120s")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """The first version, trained and deployed, and then fetched from the store as its predictor fetched it."""
    assert submit("--seed", str(SETTINGS.seed)) == 0
    return Classifier.load(Location.of_served_model().download(tmp_path_factory.mktemp("model")))


def test_preflight_ends_a_run_that_could_not_deploy_before_it_trains(first: Classifier) -> None:
    location = Location.of_served_model()
    assert submit("--seed", str(SETTINGS.seed + 1), "--service-account", "nobody") != 0
    run = newest_run()
    assert run.state == "FAILED"
    assert not {task for task, _ in artifacts_of(run.run_id, location)} & {"transform", "train", "deploy"}
    assert served_digest() == first.manifest.digest


def test_every_artifact_and_every_figure_is_recorded(first: Classifier) -> None:
    location = Location.of_served_model()
    run_id = inference_service()["metadata"]["labels"][RUN]
    artifacts = artifacts_of(run_id, location)
    assert promised_artifacts() <= artifacts.keys()
    key = artifacts["evaluate", "metrics"]
    with store() as client, contextlib.closing(client.get_object(location.bucket, key)) as file:
        figures = json.loads(file.read())
    assert 0 <= figures["figures"]["accuracy"]["value"] <= 1
    assert figures["model_digest"] == first.manifest.digest
    recorded = [in_metadata_store(f"{scheme}{location.bucket}/{key}") for scheme in ("minio://", "s3://")]
    for name in (b"accuracy", b"macro_f1", b"test_rows"):
        assert any(name in answer for answer in recorded)


def test_the_service_is_ready_and_says_which_model_it_serves(first: Classifier) -> None:
    service = inference_service()
    ready = {entry["type"]: entry["status"] for entry in service["status"]["conditions"]}
    assert ready["Ready"] == "True"
    assert served_digest() == first.manifest.digest


def test_v1_answers_as_the_classifier_does(first: Classifier) -> None:
    answers = ask(f"/v1/models/{SETTINGS.service}:predict", {"instances": TEXTS})["predictions"]
    for answer, expected in zip(answers, first.predict(TEXTS), strict=True):
        assert_answers_like(answer, expected)


def test_v2_answers_as_the_classifier_does(first: Classifier) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "data": TEXTS}
    answer = ask(f"/v2/models/{SETTINGS.service}/infer", {"inputs": [tensor]})
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    expected = first.predict(TEXTS)
    assert outputs["label"] == [prediction.label for prediction in expected]
    assert outputs["score"] == pytest.approx([prediction.score for prediction in expected], abs=TOLERANCE)


def test_predict_answers_as_the_classifier_does(first: Classifier) -> None:
    for text, expected in zip(TEXTS, first.predict(TEXTS), strict=True):
        answer = ask("/predict", {"text": text})
        assert answer.keys() == asdict(expected).keys()
        assert_answers_like(answer, expected)


def test_a_second_version_takes_over_without_a_failed_request(first: Classifier) -> None:
    with load() as outcome:
        assert submit("--seed", str(SETTINGS.seed + 2)) == 0
        assert served_digest() != first.manifest.digest
        counts = outcome()
    assert counts.keys() == {"good"}, counts


def test_a_model_that_is_no_better_than_the_champion_is_not_deployed(first: Classifier) -> None:
    before = served_digest()
    assert submit("--seed", str(SETTINGS.seed + 4), "--iterations", "1", "--champion", "served") == 0
    assert served_digest() == before


def test_a_broken_version_is_rolled_back_without_a_failed_request(first: Classifier, tmp_path: Path) -> None:
    before = served_digest()
    with load() as outcome:
        # Too little memory for torch: its pods are ended again and again.
        assert submit("--seed", str(SETTINGS.seed + 3), "--memory", "64Mi", "--deploy-timeout", "600") != 0
        assert served_digest() == before
        counts = outcome()
    assert counts.keys() == {"good"}, counts
    folder = Location.of_served_model().download(tmp_path / "model")
    assert manifest.verify(folder).digest == before
    assert_answers_like(ask("/predict", {"text": TEXTS[0]}), Classifier.load(folder).predict(TEXTS[:1])[0])


def test_nothing_is_left_of_a_service_that_is_deleted() -> None:
    kubectl("delete", "inferenceservice", SETTINGS.service, "--timeout=120s")
    mine = f"serving.kserve.io/inferenceservice={SETTINGS.service}"
    kinds = "pods,services,deployments,horizontalpodautoscalers"
    wait_until(
        lambda: not kubectl("get", kinds, "-l", mine, "-o", "name").strip(),
        180,
        "its pods and Services to be gone",
    )
