"""The same compiled pipeline, run as a person runs it: what comes out, what is shown, what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_from_disk

from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.tasks import SingleLabelPrediction
from tests import tiny
from tests.command import ROOT, Ended, pipeline
from tests.conftest import TRAINING
from tests.disks import small_disk
from tests.stages import STAGES


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def job(reviews: Path, encoder: Path, outputs: Path) -> list[str]:
    """The words of a whole small job."""
    settings = {"dataset-id": reviews, "model-id": encoder, "label-names": "bad,good", "service-name": "food"}
    settings |= {name.replace("_", "-"): value for name, value in TRAINING.items()}
    return ["run", "--outputs", str(outputs), *(f"--{name}={value}" for name, value in settings.items())]


@pytest.fixture(scope="module")
def finished(job: list[str]) -> Ended:
    return pipeline(
        *job, "--min-accuracy=0.9", "--ask=tasty food and friendly staff", "--ask=awful cold food"
    )


@pytest.fixture(scope="module")
def first_run(finished: Ended, outputs: Path) -> Path:
    """Its folder, which is the latest until another test runs something."""
    assert finished.status == 0, finished.out + finished.err
    return (outputs / "latest").resolve()


@pytest.fixture(scope="module")
def summary(first_run: Path) -> Any:
    return json.loads((first_run / "summary.json").read_text())


def test_the_summary_tells_the_run_in_figures(summary: Any) -> None:
    assert 0.9 <= summary["accuracy"] <= 1
    low, high = summary["accuracy_interval"]
    assert low < summary["accuracy"] <= high
    assert (summary["train_rows"], summary["test_rows"]) == (216, 60)
    assert summary["train_samples_per_second"] > 0
    assert summary["verdict"] == "approved"
    assert summary["seconds"].keys() == {*STAGES, "serve", "total"}
    assert summary["seconds"]["total"] >= sum(summary["seconds"][stage] for stage in STAGES)


def test_the_served_model_answers_by_label_name_with_every_probability(summary: Any) -> None:
    good, bad = summary["predictions"]
    assert (good["text"], good["label"]) == ("tasty food and friendly staff", "good")
    assert bad["label"] == "bad"
    assert good["probabilities"].keys() == {"bad", "good"}
    assert good["score"] == max(good["probabilities"].values())
    expected = Classifier.load(summary["model_dir"], SingleLabelPrediction).predict(
        [good["text"], bad["text"]]
    )
    for answer, prediction in zip(summary["predictions"], expected, strict=True):
        assert answer["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-4)


def test_artifacts_lie_where_the_summary_says_and_agree(summary: Any, first_run: Path) -> None:
    signed = manifest.verify(Path(summary["model_dir"]))
    assert (first_run / "model").resolve() == Path(summary["model_dir"])
    assert "Confusion matrix" in Path(summary["report"]).read_text()
    assert signed.digest in (first_run / "training_report.html").read_text()
    service = yaml.safe_load(Path(summary["manifest"]).read_text())
    assert service["metadata"]["name"] == "food"
    assert service["metadata"]["annotations"]["miniml/model-digest"] == signed.digest
    assert service["spec"]["predictor"]["model"]["storageUri"] == f"file://{summary['model_dir']}"
    dataset = next((first_run / "artifacts").glob("*/transform/dataset"))
    assert len(load_from_disk(str(dataset))["train"]) == summary["train_rows"]


def test_progress_is_shown_and_little_else(finished: Ended) -> None:
    for number, stage in enumerate(STAGES, 1):
        assert f"[{number}/{len(STAGES)}] {stage}" in finished.out
    for words in (
        "216 train + 24 validation + 60 test rows",
        "60 steps of 16",
        "accuracy",
        "report",
        "model",
    ):
        assert words in finished.out
    for noise in ("executorInput", "KFP Executor", "Warning", "LOAD REPORT", "INFO", "it/s]"):
        assert noise not in finished.out + finished.err
    assert len(finished.out.splitlines()) < 60


def test_a_second_run_takes_unchanged_stages_from_the_cache_and_says_so(
    job: list[str], summary: Any, outputs: Path
) -> None:
    again = pipeline(*job, "--min-accuracy=0.9")
    assert again.status == 0, again.err
    for stage in ("transform", "train", "compress", "evaluate"):
        assert f"{stage} · unchanged, taken from the cache" in again.out
    repeated = json.loads((outputs / "latest" / "summary.json").read_text())
    assert repeated["model_dir"] == summary["model_dir"]
    assert repeated["seconds"]["train"] == 0
    assert repeated["accuracy"] == summary["accuracy"]
    assert [len(answer["text"]) > 0 for answer in repeated["predictions"]] == [True, True]


def test_a_cached_stage_that_left_nothing_is_run_again(job: list[str], summary: Any, outputs: Path) -> None:
    # So kfp keeps a container that failed and was gone before it asked.
    for entry in (outputs / "cache").rglob("*.json"):
        entry.write_text("{}")
    again = pipeline(*job, "--min-accuracy=0.9")
    assert again.status == 0, again.err
    assert "taken from the cache" not in again.out


def test_a_changed_file_is_read_again(job: list[str], tmp_path: Path) -> None:
    source = tiny.write_reviews(tmp_path / "reviews.csv", rows=60)
    words = [*job, f"--dataset-id={source}", f"--outputs={tmp_path}", "--iterations=1", "--min-accuracy=1"]
    assert "12 test rows" in pipeline(*words).out
    tiny.write_reviews(source, rows=80)
    shown = pipeline(*words).out
    assert "16 test rows" in shown
    assert "taken from the cache" not in shown


def test_a_model_below_the_threshold_is_rejected_and_the_run_succeeds(job: list[str], outputs: Path) -> None:
    ended = pipeline(*job, "--iterations=1", "--min-accuracy=0.99")
    assert ended.status == 0
    assert "[7/7] deploy · skipped" in ended.out
    rejected = json.loads((outputs / "latest" / "summary.json").read_text())
    assert rejected["verdict"] == "rejected"
    assert "below min_accuracy 0.99" in rejected["reasons"][0]
    assert rejected["manifest"] is None
    assert rejected["predictions"] == []
    assert not (outputs / "latest" / "inference_service.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train-test-split-ratio=1.5"], "train_test_split_ratio is 1.5; it must lie between 0 and 1"),
        (["--iterations=-3"], "iterations is -3, below 1"),
        (["--batch-size=0"], "batch_size is 0; it must be 1 or more"),
        (["--device=gpu"], "device 'gpu' is not known"),
        (["--dataset-id=./nowhere.csv"], "dataset_id './nowhere.csv': no such file or folder"),
        (["--model-id=./nowhere"], "model_id './nowhere': no such file or folder"),
        (["--text-column=review"], "transform: column 'review' is not in split 'train'"),
        (["--device=cuda:9"], "train: device 'cuda:9' is not on this machine; torch sees: cpu"),
    ],
)
def test_bad_input_ends_with_a_message_and_leaves_the_latest_run_alone(
    words: list[str], message: str, job: list[str], summary: Any, outputs: Path
) -> None:
    before = (outputs / "latest").resolve()
    ended = pipeline(*job, *words)
    assert ended.status == 1
    assert message in ended.err
    assert "Traceback" not in ended.out + ended.err
    assert "steps of" not in ended.out
    assert (outputs / "latest").resolve() == before


def test_a_model_folder_without_weights_is_refused_before_training(
    job: list[str], encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    ended = pipeline(*job, f"--model-id={tmp_path / 'encoder'}")
    assert ended.status == 1
    assert "train: model_id" in ended.err
    assert "has no weights (model.safetensors); it has: config.json" in ended.err


def test_a_full_disk_ends_a_run_with_a_message_and_no_latest(job: list[str], tmp_path: Path) -> None:
    with small_disk(tmp_path, "96k"):
        ended = pipeline(*job, f"--outputs={tmp_path}")
        assert ended.status == 1
        assert "disk" in ended.err or "No space left on device" in ended.err
        assert "Traceback" not in ended.err
        assert not (tmp_path / "latest").exists()


def test_serving_before_any_run_says_what_to_do(tmp_path: Path) -> None:
    ended = pipeline("serve", "--outputs", tmp_path)
    assert ended.status == 1
    assert "make run" in ended.err


def test_a_stage_has_nobody_to_ask() -> None:
    """transformers asks on standard input whether a model's own code may run; a script's may say y to anything."""
    script = (
        "import subprocess, sys; from miniml.local.runner import stdin_closed\n"
        "ask = [sys.executable, '-c', 'import sys; print([sys.stdin.readline()], flush=True)']\n"
        "with stdin_closed(): subprocess.run(ask)\n"
        "subprocess.run(ask)"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=ROOT, input="y\n", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['']", r"['y\n']"]
