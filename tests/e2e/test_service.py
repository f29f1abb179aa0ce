"""What is trained, deployed and served: the artifacts, the answers, a rollout under load, and a rollback.

The tests build on each other, in this order: what serves in one is what the next one replaces.
"""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests

from miniml.cluster.inference_service import MODEL_DIGEST, RUN
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.pipeline.compiled import TEXT_CLASSIFICATION
from miniml.resource_names import NAMESPACE
from miniml.tasks import SingleLabelPrediction
from pipelines.text_classification import text_classification
from tests.e2e.cluster import (
    SETTINGS,
    TIMEOUT,
    Location,
    ask,
    forwarded,
    inference_service,
    kubectl,
    load,
    store,
    submit,
    wait_until,
)

pytestmark = pytest.mark.cluster

TEXTS = [
    "A wonderful film, I would gladly watch it again.",
    "Two hours of my life that I will never get back.",
]
TOLERANCE = 0.02
"""Of a probability: another processor rounds otherwise, and another model differs by far more."""


def served_digest() -> str:
    return str(inference_service()["metadata"]["annotations"][MODEL_DIGEST])


def artifacts_of(run_id: str, location: Location) -> dict[tuple[str, str], str]:
    """The key of each artifact that a run left, by its task and output: <root>/<run>/<task>/<uuid>/<output>."""
    pipeline = f"/{TEXT_CLASSIFICATION}/"
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
            timeout=TIMEOUT,
        )
    response.raise_for_status()
    return response.content


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)


def assert_answers_like(answer: dict[str, Any], expected: SingleLabelPrediction) -> None:
    assert answer["label"] == expected.label
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=TOLERANCE)


def test_preflight_ends_a_run_that_could_not_deploy_before_it_trains(first: Classifier) -> None:
    location = Location.of_served_model()
    ended = submit("--seed", str(SETTINGS.seed + 1), "--service-account", "nobody")
    assert ended.status != 0
    assert f"service account {SETTINGS.namespace}/nobody: missing" in ended.output
    assert not {task for task, _ in artifacts_of(ended.run_id, location)} & {"transform", "train", "deploy"}
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


def test_v1_answers_as_the_classifier_does(first: Classifier[SingleLabelPrediction]) -> None:
    answers = ask(f"/v1/models/{SETTINGS.service}:predict", {"instances": TEXTS})["predictions"]
    for answer, expected in zip(answers, first.predict(TEXTS), strict=True):
        assert_answers_like(answer, expected)


def test_v2_answers_as_the_classifier_does(first: Classifier[SingleLabelPrediction]) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(TEXTS)], "data": TEXTS}
    answer = ask(f"/v2/models/{SETTINGS.service}/infer", {"inputs": [tensor]})
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    expected = first.predict(TEXTS)
    assert outputs["label"] == [prediction.label for prediction in expected]
    assert outputs["score"] == pytest.approx([prediction.score for prediction in expected], abs=TOLERANCE)


def test_predict_answers_as_the_classifier_does(first: Classifier[SingleLabelPrediction]) -> None:
    for text, expected in zip(TEXTS, first.predict(TEXTS), strict=True):
        answer = ask("/predict", {"text": text})
        assert answer.keys() == asdict(expected).keys()
        assert_answers_like(answer, expected)


def test_a_second_version_takes_over_without_a_failed_request(first: Classifier) -> None:
    with load() as outcome:
        assert submit("--seed", str(SETTINGS.seed + 2)).status == 0
        assert served_digest() != first.manifest.digest
        counts = outcome()
    assert counts.keys() == {"good"}, counts


def test_a_model_that_is_no_better_than_the_champion_is_not_deployed(first: Classifier) -> None:
    before = served_digest()
    assert submit("--seed", str(SETTINGS.seed + 4), "--iterations", "1", "--champion", "served").status == 0
    assert served_digest() == before


def test_a_broken_version_is_rolled_back_without_a_failed_request(first: Classifier, tmp_path: Path) -> None:
    before = served_digest()
    with load() as outcome:
        # Too little memory for torch: its pods are ended again and again.
        assert (
            submit("--seed", str(SETTINGS.seed + 3), "--memory", "64Mi", "--deploy-timeout", "600").status
            != 0
        )
        assert served_digest() == before
        counts = outcome()
    assert counts.keys() == {"good"}, counts
    folder = Location.of_served_model().download(tmp_path / "model")
    assert manifest.verify(folder).digest == before
    assert_answers_like(
        ask("/predict", {"text": TEXTS[0]}),
        Classifier.load(folder, SingleLabelPrediction).predict(TEXTS[:1])[0],
    )


def test_nothing_is_left_of_a_service_that_is_deleted() -> None:
    kubectl("delete", "inferenceservice", SETTINGS.service, "--timeout=120s")
    mine = f"serving.kserve.io/inferenceservice={SETTINGS.service}"
    kinds = "pods,services,deployments,horizontalpodautoscalers"
    wait_until(
        lambda: not kubectl("get", kinds, "-l", mine, "-o", "name").strip(),
        "its pods and Services to be gone",
    )
