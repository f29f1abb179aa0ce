"""The InferenceService is what KServe's own schema takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from miniml import deployment, manifest
from miniml.errors import GateError, InputError
from miniml.evaluation import evaluate_model
from miniml.evaluation_result import EvaluationResult
from miniml.settings import DeploymentSettings, GateSettings

CRD = Path(__file__).parents[2] / "shared" / "crds" / "serving.kserve.io_inferenceservices.yaml"

SETTINGS = DeploymentSettings(
    service_name="stars", namespace="models", min_replicas=2, max_replicas=5, cpu="500m", memory="3Gi"
)


@pytest.fixture(scope="module")
def result(model_dir: Path, dataset_dir: Path) -> EvaluationResult:
    return evaluate_model(model_dir, dataset_dir)


def test_it_says_what_to_serve_and_how() -> None:
    service = deployment.inference_service("s3://bucket/model", "d" * 64, SETTINGS)
    assert service["metadata"]["name"] == "stars"
    assert service["metadata"]["namespace"] == "models"
    assert service["metadata"]["annotations"]["miniml/model-digest"] == "d" * 64
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 5)
    model = predictor["model"]
    assert (model["runtime"], model["storageUri"], model["protocolVersion"]) == (
        "miniml",
        "s3://bucket/model",
        "v2",
    )
    assert model["resources"]["limits"] == {"cpu": "500m", "memory": "3Gi"}
    assert model["readinessProbe"]["httpGet"]["path"] == "/v2/models/stars/ready"


@pytest.mark.parametrize(
    ("uri", "storage"),
    [
        ("minio://mlpipeline/v2/artifacts/a/minio://b", "s3://mlpipeline/v2/artifacts/a/minio://b"),
        ("s3://bucket/model", "s3://bucket/model"),
        ("gs://bucket/model", "gs://bucket/model"),
        ("/home/me/model", "file:///home/me/model"),
    ],
)
def test_only_the_scheme_of_the_models_address_changes(uri: str, storage: str) -> None:
    assert deployment.storage_uri(uri) == storage


def test_an_address_that_kserve_cannot_read_is_refused() -> None:
    with pytest.raises(InputError, match="ftp://"):
        deployment.storage_uri("ftp://host/model")


def _strict(schema: Any) -> Any:
    """The schema with unknown fields forbidden, as the API server does for server-side apply."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    return strict


@pytest.mark.skipif(not CRD.exists(), reason=f"KServe's schemas are not at {CRD}")
def test_it_is_valid_by_kserves_schema_and_the_schema_would_notice() -> None:
    crd = yaml.load(CRD.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    version = next(version for version in crd["spec"]["versions"] if version["name"] == "v1beta1")
    schema = _strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    spec = deployment.inference_service("s3://bucket/model", "d" * 64, SETTINGS)["spec"]
    jsonschema.Draft7Validator(schema).validate(spec)
    for path, value in ((("model", "storageUrl"), "s3://b"), (("minReplicas",), "two")):
        broken = yaml.safe_load(yaml.safe_dump(spec))
        place = broken["predictor"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft7Validator(schema).validate(broken)


def test_an_approved_model_is_rendered(model_dir: Path, result: EvaluationResult, tmp_path: Path) -> None:
    path = tmp_path / "deploy" / "inference_service"
    gate = GateSettings(0.0)
    deployment.deploy(model_dir, "minio://b/model", True, result, gate, SETTINGS, path)
    service = yaml.safe_load(path.read_text())
    assert service["spec"]["predictor"]["model"]["storageUri"] == "s3://b/model"
    assert service["metadata"]["annotations"]["miniml/model-digest"] == manifest.read(model_dir).digest


def test_a_rejected_model_is_not_rendered(model_dir: Path, result: EvaluationResult, tmp_path: Path) -> None:
    path = tmp_path / "inference_service"
    with pytest.raises(GateError):
        deployment.deploy(model_dir, "s3://b/model", False, result, GateSettings(0.0), SETTINGS, path)
    assert not path.exists()
