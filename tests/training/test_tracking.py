"""Logging a training to TensorBoard and MLflow: what arrives there, and that nothing there costs a training."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerControl, TrainerState, TrainingArguments

from miniml.data import prepared
from miniml.errors import InputError
from miniml.model import manifest
from miniml.settings.log_targets import MlflowExperiment, TensorBoardFolder, targets
from miniml.settings.training import TrainingSettings
from miniml.training.fine_tune import TrainingResult, fine_tune
from miniml.training.tracking import MlflowTracker, RunDescription, TensorBoardTracker, Tracker
from tests import patience
from tests.conftest import TRAINING
from tests.disks import small_disk
from tests.killed import killed
from tests.ports import free_port

MLFLOW = os.environ.get("MINIML_MLFLOW", "")
"""The program `mlflow` of an environment that has all of it: its server does not install beside our own libraries."""


@pytest.fixture(autouse=True)
def folder_stores_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for the test's own client


def train(dataset_dir: Path, folder: Path, encoder: Path, **settings: Any) -> TrainingResult:
    return fine_tune(
        dataset_dir, folder, TrainingSettings(**{"model_id": str(encoder), **TRAINING, **settings})
    )


def runs(store: str, name: str) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(name)
    assert experiment
    return client, list(client.search_runs([experiment.experiment_id]))


def only_run(store: str, experiment: str) -> tuple[MlflowClient, Run]:
    client, [run] = runs(store, experiment)
    return client, run


def steps(client: MlflowClient, run: Run, name: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run.info.run_id, name)]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def result(dataset_dir: Path, encoder: Path, logs: Path) -> TrainingResult:
    log_to = f"tensorboard://{logs}/tensorboard, mlflow+file://{logs}/mlruns/my%20reviews"
    return train(dataset_dir, logs / "model", encoder, log_to=log_to, iterations=20)


def test_tensorboard_shows_curves_settings_and_figures(result: TrainingResult, logs: Path) -> None:
    [folder] = (logs / "tensorboard").iterdir()
    read = EventAccumulator(str(folder))
    read.Reload()
    assert {"train/loss", "train/learning_rate", "eval/loss", "eval/accuracy"} <= set(read.Tags()["scalars"])
    assert [event.step for event in read.Scalars("train/loss")] == list(range(1, 21))
    assert read.Scalars("eval/accuracy")[-1].value == pytest.approx(result.metrics["validation_accuracy"])
    assert "dataset.fingerprint/text_summary" in read.Tags()["tensors"]
    assert any(tag.startswith("_hparams_") for tag in read.summary_metadata)


def test_mlflow_has_settings_curves_and_where_all_came_from(
    result: TrainingResult, dataset_dir: Path, logs: Path
) -> None:
    client, run = only_run(f"file://{logs}/mlruns", "my reviews")
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.01"
    assert run.data.params["iterations"] == "20"
    assert steps(client, run, "loss") == list(range(1, 21))
    assert run.data.metrics["validation_accuracy"] == result.metrics["validation_accuracy"]
    assert run.data.tags["miniml.digest"] == result.digest == manifest.read(logs / "model").digest
    assert run.data.tags["dataset.fingerprint"] == prepared.load(dataset_dir)[1].fingerprint


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("tensorboard:///srv/my%20logs/", TensorBoardFolder(Path("/srv/my logs"))),
        ("mlflow+http://mlflow.team:5000/reviews", MlflowExperiment("http://mlflow.team:5000", "reviews")),
        ("mlflow+https://team/mlflow/a%2Cb", MlflowExperiment("https://team/mlflow", "a,b")),
        ("mlflow+file:///srv/mlruns/reviews", MlflowExperiment("file:///srv/mlruns", "reviews")),
    ],
)
def test_a_uri_says_where(uri: str, target: TensorBoardFolder | MlflowExperiment) -> None:
    assert targets(f" {uri} ,") == [target]


@pytest.mark.parametrize(
    "uri",
    [
        "/srv/logs",
        "tensorboard://srv/logs",
        "tensorboard:///",
        "mlflow+http://mlflow.team:5000",
        "mlflow+http:///reviews",
        "mlflow+http://host:port/reviews",
        "mlflow+file:///reviews",
        "http://mlflow.team/reviews",
        "wandb://team/reviews",
    ],
)
def test_another_uri_is_refused_with_the_forms_there_are(uri: str) -> None:
    with pytest.raises(
        InputError, match=r"is no place to log to\. Write tensorboard:///<folder>, mlflow\+http"
    ):
        TrainingSettings(log_to=f"tensorboard:///tmp/logs,{uri}")


@pytest.mark.parametrize(
    "uri", ["mlflow+https://me:secret@team/reviews", "mlflow+http://team/x?token=secret"]
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(InputError) as refused:
        TrainingSettings(log_to=uri)
    assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_refused_before_the_training(
    dataset_dir: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InputError, match=rf"MLflow at http://127\.0\.0\.1:{port} cannot be used"):
        train(dataset_dir, tmp_path / "model", encoder, log_to=f"mlflow+http://127.0.0.1:{port}/reviews")
    assert "steps of" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_training(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="TensorBoard's files cannot be written to"):
        train(dataset_dir, tmp_path / "model", encoder, log_to=f"tensorboard://{tmp_path}/file/logs")


@pytest.mark.parametrize(
    ("library", "log_to"), [("tensorboard", "tensorboard:///{}"), ("mlflow", "mlflow+file:///{}/x")]
)
def test_a_library_that_is_not_installed_is_named_before_the_training(
    library: str,
    log_to: str,
    dataset_dir: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"{library}, which is not installed here.*miniml\[{library}\]"):
        train(dataset_dir, tmp_path / "model", encoder, log_to=log_to.format(tmp_path))


def test_a_training_that_diverges_is_a_run_that_failed(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="diverged"):
        train(
            dataset_dir, tmp_path / "model", encoder, learning_rate=1e30, precision="fp32",
            log_to=f"mlflow+file://{tmp_path}/mlruns/reviews",
        )  # fmt: skip
    assert only_run(f"file://{tmp_path}/mlruns", "reviews")[1].info.status == "FAILED"


# TensorBoard writes on a thread of its own, which ends with the error that the next call meets.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fills_up_with_curves_costs_no_training(
    dataset_dir: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", "8k"):
        result = train(dataset_dir, tmp_path / "model", encoder, log_to=f"tensorboard://{tmp_path}/disk")
    assert manifest.verify(tmp_path / "model").digest == result.digest
    assert capsys.readouterr().out.count("training goes on") == 1


class Course:
    """A training without a model: what the trainer tells a tracker of it."""

    def __init__(self, tracker: Tracker, folder: Path, begin: int = 0) -> None:
        self._tracker, self._arguments = tracker, TrainingArguments(str(folder), report_to=[])
        self._state = TrainerState(global_step=begin, max_steps=100)
        tracker.on_train_begin(self._arguments, self._state, TrainerControl())

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self._state.global_step += 1
            self._tracker.on_log(self._arguments, self._state, TrainerControl(), logs={"loss": 0.5})


@pytest.fixture
def new_tracker(tmp_path: Path) -> Callable[[], MlflowTracker]:
    run = RunDescription("bert-12345678", "k" * 64, {"iterations": 200}, {"dataset.source": "reviews.csv"})
    return lambda: MlflowTracker(MlflowExperiment(f"file://{tmp_path}/mlruns", "reviews"), run)


def test_a_store_that_goes_away_is_told_of_once_and_gets_what_it_missed(
    new_tracker: Callable[[], MlflowTracker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = new_tracker()
    course = Course(tracker, tmp_path)
    course.go_on(3)
    (tmp_path / "mlruns").rename(tmp_path / "away")
    course.go_on(4)
    assert capsys.readouterr().out.count("training goes on") == 1
    shutil.rmtree(tmp_path / "mlruns", ignore_errors=True)
    (tmp_path / "away").rename(tmp_path / "mlruns")
    tracker.finish("d" * 64, {"validation_accuracy": 0.9})
    assert "again, with what it had missed" in capsys.readouterr().out
    client, run = only_run(f"file://{tmp_path}/mlruns", "reviews")
    assert run.info.status == "FINISHED"
    assert steps(client, run, "loss") == [1, 2, 3, 4, 5, 6, 7]


def test_a_training_that_is_taken_up_again_goes_on_in_its_run(
    new_tracker: Callable[[], MlflowTracker], tmp_path: Path
) -> None:
    Course(new_tracker(), tmp_path).go_on(3)  # and then its process is killed
    tracker = new_tracker()
    Course(tracker, tmp_path, begin=3).go_on(2)
    tracker.finish("d" * 64, {})
    client, run = only_run(f"file://{tmp_path}/mlruns", "reviews")
    assert (run.info.status, steps(client, run, "loss")) == ("FINISHED", [1, 2, 3, 4, 5])


def test_a_killed_training_is_one_run_and_one_folder_in_the_end(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    log_to = f"tensorboard://{tmp_path}/tensorboard,mlflow+file://{tmp_path}/mlruns/reviews"
    settings = TrainingSettings(
        **{"model_id": str(encoder), **TRAINING, "iterations": 12, "log_to": log_to},
        checkpoints=str(tmp_path / "checkpoints"), checkpoint_interval=0,
    )  # fmt: skip
    killed(6, dataset_dir, tmp_path / "model", settings, log=tmp_path / "log")
    fine_tune(dataset_dir, tmp_path / "model", settings)
    client, run = only_run(f"file://{tmp_path}/mlruns", "reviews")
    assert run.info.status == "FINISHED"
    assert set(steps(client, run, "loss")) == set(range(1, 13))
    [folder] = (tmp_path / "tensorboard").iterdir()
    read = EventAccumulator(str(folder))
    read.Reload()
    assert [event.step for event in read.Scalars("train/loss")] == list(range(1, 13))


def test_tensorboard_reads_a_training_taken_up_again_within_the_second_in_the_order_of_its_steps(
    tmp_path: Path,
) -> None:
    target, run = TensorBoardFolder(tmp_path), RunDescription("reviews", "id", {}, {})
    Course(TensorBoardTracker(target, run), tmp_path).go_on(3)  # and then its process is killed
    [earlier] = (tmp_path / "reviews").iterdir()
    opened = earlier.name.split(".")[:4]
    earlier.rename(earlier.with_name(".".join([*opened, "~a-host-that-sorts-last"])))
    Course(TensorBoardTracker(target, run), tmp_path, begin=3).go_on(2)
    read = EventAccumulator(str(tmp_path / "reviews"))
    read.Reload()
    assert [event.step for event in read.Scalars("train/loss")] == [1, 2, 3, 4, 5]


def test_a_training_that_begins_anew_in_another_precision_is_a_run_that_failed_and_another(
    new_tracker: Callable[[], MlflowTracker], tmp_path: Path
) -> None:
    tracker = new_tracker()
    Course(tracker, tmp_path).go_on(3)
    Course(tracker, tmp_path).go_on(2)
    tracker.finish("d" * 64, {})
    client, found = runs(f"file://{tmp_path}/mlruns", "reviews")
    assert {run.info.status: steps(client, run, "loss") for run in found} == {
        "FAILED": [1, 2, 3],
        "FINISHED": [1, 2],
    }


def test_the_same_training_once_more_is_another_run(
    new_tracker: Callable[[], MlflowTracker], tmp_path: Path
) -> None:
    for _ in range(2):
        tracker = new_tracker()
        Course(tracker, tmp_path).go_on(1)
        tracker.finish("d" * 64, {})
    assert len(runs(f"file://{tmp_path}/mlruns", "reviews")[1]) == 2


class Server:
    """A real MLflow server on a port of its own, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [MLFLOW, "server", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        log = (self._folder / "server.log").open("a")
        self._process = subprocess.Popen(
            words, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
        )
        log.close()
        patience.wait_until(self._answers)

    def stop(self) -> None:
        os.killpg(self._process.pid, 15)
        self._process.wait(timeout=patience.SECONDS)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the server did not start"
        try:
            return requests.get(f"{self.url}/health", timeout=patience.SECONDS).ok
        except requests.RequestException:
            return False


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[Server]:
    if not MLFLOW:
        pytest.skip("needs a real MLflow: MINIML_MLFLOW=<the program mlflow of an environment of its own>")
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.stop()


def test_a_real_server_gets_it_all_and_may_be_restarted_meanwhile(
    mlflow_server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [target] = targets(f"mlflow+{mlflow_server.url}/reviews")
    assert isinstance(target, MlflowExperiment)
    tracker = MlflowTracker(target, RunDescription("bert-12345678", "k" * 64, {"iterations": 200}, {}))
    course = Course(tracker, tmp_path)
    course.go_on(3)
    mlflow_server.stop()
    course.go_on(3)
    mlflow_server.start()
    tracker.finish("d" * 64, {"validation_accuracy": 0.9})
    output = capsys.readouterr().out
    assert output.count("training goes on") == 1
    assert "again, with what it had missed" in output
    client, run = only_run(mlflow_server.url, "reviews")
    assert run.info.status == "FINISHED"
    assert steps(client, run, "loss") == [1, 2, 3, 4, 5, 6]
    assert run.data.tags["miniml.digest"] == "d" * 64
