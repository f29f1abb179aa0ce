"""From a notebook, a run on a cluster reads like one on this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniml import sdk
from miniml.cluster.inference_service import inference_service
from miniml.errors import InputError
from miniml.kubeflow.step_log import BUCKET
from miniml.kubeflow.submission import SubmissionError
from miniml.settings.deployment import DeploymentSettings
from tests.argo_workflow import Moment, pod_name
from tests.kfp_server import FAILED_LOG, KfpServer
from tests.kubernetes_server import KubernetesServer, becomes_ready
from tests.s3_server import WRITER, S3Server
from tests.stages import STAGES

DONE = dict.fromkeys(STAGES, "SUCCEEDED")
ARTIFACTS = "v2/artifacts/text-classification/run-0/evaluate/5c1f"


@pytest.fixture
def kfp() -> Iterator[KfpServer]:
    with KfpServer(looks=[DONE]) as running:
        yield running


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    """A cluster on which the InferenceService "miniml" serves."""
    with KubernetesServer(lambda text: {"bad": 0.25, "good": 0.75}) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.write_kubeconfig(tmp_path / "kubeconfig")))
        service = inference_service("s3://bucket/model", "d" * 64, DeploymentSettings())
        running.apply("miniml", service, force=False)
        list(becomes_ready(running, running.services["miniml"]))
        yield running


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """KFP's own store, with what evaluate left there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    client = s3_server.client()
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    left = {"metrics": json.dumps({"figures": {"accuracy": {"value": 0.9}}}), "report": "<h1>Report</h1>"}
    for name, content in left.items():
        client.put_object(BUCKET, f"{ARTIFACTS}/{name}", io.BytesIO(content.encode()), len(content))


def test_a_run_on_a_cluster_gives_figures_report_and_answers(
    kfp: KfpServer, kubernetes: KubernetesServer, store: None
) -> None:
    results = sdk.submit({"iterations": 7}, host=kfp.url).wait()
    assert kfp.runs[0]["runtime_config"]["parameters"]["iterations"] == 7
    assert results.metrics["figures"]["accuracy"]["value"] == 0.9
    assert results.report == "<h1>Report</h1>"
    assert results.deployed
    answers = results.ask(["one", "two"])
    assert [answer["probabilities"]["good"] for answer in answers] == [0.75, 0.75]


@pytest.mark.parametrize("frozen_at", [None, 0])
def test_a_run_whose_evaluation_comes_from_the_cache_gives_that_runs_figures(
    kfp: KfpServer, kubernetes: KubernetesServer, store: None, s3_server: S3Server, frozen_at: int | None
) -> None:
    earlier = "private/artifacts/text-classification/run-of-yesterday/evaluate/77aa"
    metrics = json.dumps({"figures": {"accuracy": {"value": 0.8}}}).encode()
    for name, content in {"metrics": metrics, "report": b"<h1>Yesterday</h1>"}.items():
        s3_server.client().put_object(BUCKET, f"{earlier}/{name}", io.BytesIO(content), len(content))
    read = [f"minio://{BUCKET}/{earlier}/metrics", f"minio://{BUCKET}/v2/x/run-0/preflight/9/record"]
    kfp.looks, kfp.frozen_at = [Moment({**DONE, "evaluate": "CACHED"}, reads={"gate": read})], frozen_at
    results = sdk.submit({}, host=kfp.url).wait()
    assert results.metrics["figures"]["accuracy"]["value"] == 0.8
    assert results.report == "<h1>Yesterday</h1>"


def test_a_run_that_fails_there_raises_here_and_says_where_to_look(kfp: KfpServer) -> None:
    kfp.looks, kfp.end = [{"train": "FAILED"}], "FAILED"
    kfp.logs[pod_name("train")] = FAILED_LOG
    run = sdk.submit({}, host=kfp.url)
    with pytest.raises(
        SubmissionError, match=r"train: column 'label' not in[^/]*FAILED.*/#/runs/details/run-0"
    ):
        run.wait()


def test_the_host_is_the_environments_to_say(kfp: KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_HOST", kfp.url)
    sdk.submit({})
    assert len(kfp.runs) == 1


@pytest.mark.parametrize("host", ["", "http://cluster.example"])
def test_wrong_arguments_are_refused_before_anything_is_asked(host: str) -> None:
    with pytest.raises(InputError, match="batch_size is 0"):
        sdk.submit({"batch_size": 0}, host=host)


def test_an_argument_that_the_pipeline_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match=r"no argument 'batchsize'.*batch_size"):
        sdk.submit({"batchsize": 8}, host="")


def test_a_preset_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: dict[str, Any] = sdk.preset("demo")
    changed["epochs"] = 9
    assert sdk.preset("demo")["epochs"] == 1


def test_arguments_may_be_paths_and_numbers_of_numpy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KFP_HOST", raising=False)
    run = sdk.submit({"dataset_id": tmp_path, "seed": np.int64(3), "learning_rate": np.float32(0.5)})
    assert isinstance(run, sdk._LocalRun)
    given = json.loads(json.dumps(run.arguments))
    assert (given["dataset_id"], given["seed"], given["learning_rate"]) == (str(tmp_path), 3, 0.5)


def test_the_pipeline_compiles_to_what_the_ui_takes() -> None:
    assert "pipelineInfo" in sdk.compile()
