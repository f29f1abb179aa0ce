"""The InferenceService is what KServe's own schema takes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import yaml

from miniml.cluster.inference_service import REVISION, RUN, inference_service, storage_uri
from miniml.errors import InputError
from miniml.resource_names import RUNTIME
from miniml.settings.deployment import DeploymentSettings
from tests import crds

SETTINGS = DeploymentSettings(
    service_name="stars", namespace="models", min_replicas=2, max_replicas=5, cpu="500m", memory="3Gi"
)


def test_it_says_what_to_serve_and_how() -> None:
    service = inference_service("s3://bucket/model", "d" * 64, SETTINGS)
    assert service["metadata"]["name"] == "stars"
    assert service["metadata"]["namespace"] == "models"
    assert service["metadata"]["annotations"]["miniml/model-digest"] == "d" * 64
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 5)
    model = predictor["model"]
    assert (model["runtime"], model["storageUri"], model["protocolVersion"]) == (
        RUNTIME,
        "s3://bucket/model",
        "v2",
    )
    assert model["resources"]["limits"] == {"cpu": "500m", "memory": "3Gi"}


def test_autoscaling_and_the_account_are_the_settings() -> None:
    settings = DeploymentSettings(
        autoscaling_metric="memory", autoscaling_target=55, service_account="reader", max_replicas=3
    )
    predictor = inference_service("s3://bucket/model", "d" * 64, settings)["spec"]["predictor"]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("memory", 55)
    assert predictor["serviceAccountName"] == "reader"


def test_the_revision_changes_with_what_changes_the_pods_and_not_with_the_run() -> None:
    def revision(digest: str, settings: DeploymentSettings, run: str) -> str:
        return str(inference_service("s3://b/m", digest, settings, run)["metadata"]["annotations"][REVISION])

    first = revision("d" * 64, SETTINGS, "run-1")
    assert revision("d" * 64, SETTINGS, "run-2") == first
    assert revision("e" * 64, SETTINGS, "run-1") != first
    assert revision("d" * 64, replace(SETTINGS, memory="4Gi"), "run-1") != first


def test_a_label_says_which_run_made_it() -> None:
    assert inference_service("s3://b/m", "d" * 64, SETTINGS, "run-1")["metadata"]["labels"][RUN] == "run-1"


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
    assert storage_uri(uri) == storage


def test_an_address_that_kserve_cannot_read_is_refused() -> None:
    with pytest.raises(InputError, match="ftp://"):
        storage_uri("ftp://host/model")


def test_with_gpus_a_pod_asks_for_them_and_tolerates_their_taint_and_without_it_knows_of_none() -> None:
    def predictor(settings: DeploymentSettings) -> Any:
        return inference_service("s3://b/m", "d" * 64, settings)["spec"]["predictor"]

    found = predictor(replace(SETTINGS, gpus=2, node_selector="nvidia.com/gpu.product=NVIDIA-L4, zone=a"))
    for kind in ("requests", "limits"):
        assert found["model"]["resources"][kind] == {"cpu": "500m", "memory": "3Gi", "nvidia.com/gpu": "2"}
    assert found["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert found["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4", "zone": "a"}
    assert not predictor(SETTINGS).keys() & {"tolerations", "nodeSelector"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gpus": -1}, "gpus is -1"),
        ({"node_selector": "zone"}, "node_selector 'zone' cannot be read at 'zone'. Write each label once"),
        ({"node_selector": "zone=a, zone=b"}, "cannot be read at 'zone=b'"),
        ({"node_selector": "zone=a b"}, "cannot be read at 'zone=a b'"),
    ],
)
def test_what_no_node_could_have_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        DeploymentSettings(**wrong)


@crds.needed
def test_it_is_valid_by_kserves_schema_and_the_schema_would_notice() -> None:
    service = inference_service("s3://bucket/model", "d" * 64, SETTINGS)
    crds.validate(service)
    on_gpus = replace(SETTINGS, gpus=1, node_selector="zone=a")
    crds.validate(inference_service("s3://bucket/model", "d" * 64, on_gpus))
    for path, value in ((("model", "storageUrl"), "s3://b"), (("minReplicas",), "two")):
        broken = yaml.safe_load(yaml.safe_dump(service))
        place = broken["spec"]["predictor"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            crds.validate(broken)
