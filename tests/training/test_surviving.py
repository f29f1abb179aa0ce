"""A training that was ended goes on, when it is run again with the same arguments, to the end it would have had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from _thread import interrupt_main
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from miniml.data import prepared
from miniml.errors import InputError, StorageError, StoreError
from miniml.files.digests import sha256
from miniml.files.folders import locked
from miniml.model import manifest
from miniml.model.history import HISTORY_NAME
from miniml.processor import has_bf16
from miniml.settings.training import TrainingSettings
from miniml.store import mirror
from miniml.store.repository import RetryTimeouts
from miniml.training import checkpoints
from miniml.training.checkpoints import FINISHED
from miniml.training.fine_tune import fine_tune
from miniml.training.trainer import DivergedError
from tests.command import ROOT
from tests.disks import small_disk
from tests.killed import asked_to_end, happening, killed
from tests.s3_server import WRITER, S3Server

BATCH, STEPS, STEPS_OF_AN_EPOCH = 32, 17, 7
"""With dropout, so that random numbers count, and beyond two epochs, so that the order of the texts does."""
BUCKET = "checkpoints"


@dataclass
class Runs:
    """Trainings with the same arguments, except for where their checkpoints go and how often."""

    folder: Path
    dataset_dir: Path
    encoder: Path

    def arguments(self, **settings: Any) -> tuple[Path, Path, TrainingSettings]:
        values: dict[str, Any] = {
            "model_id": str(self.encoder),
            "batch_size": BATCH,
            "iterations": STEPS,
            "learning_rate": 1e-2,
            "max_length": 32,
            "dropout": 0.1,
            "checkpoints": str(self.folder / "kept"),
            "checkpoint_interval": 0,
            **settings,
        }
        return (
            self.dataset_dir,
            self.folder / "model",
            TrainingSettings(**values),
        )

    def killed(self, step: int, event: str = "on_step_end", **settings: Any) -> str:
        return killed(step, *self.arguments(**settings), event=event, log=self.folder / "log")

    def run(self, model_uri: str = "", **settings: Any) -> Path:
        fine_tune(*self.arguments(**settings), model_uri)
        return self.folder / "model"

    @property
    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "kept").glob("*/*"))

    @property
    def newest(self) -> Path:
        found = (self.folder / "kept").glob("*/step-*")
        return max(found, key=lambda path: int(path.name.removeprefix("step-")))


@pytest.fixture
def runs(tmp_path: Path, dataset_dir: Path, encoder: Path) -> Runs:
    return Runs(tmp_path, dataset_dir, encoder)


@pytest.fixture(scope="module")
def uninterrupted(
    dataset_dir: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    return end(Runs(tmp_path_factory.mktemp("whole"), dataset_dir, encoder).run(checkpoints="none"))


def end(model_dir: Path) -> dict[str, Any]:
    """What a training came to: its weights, metrics and curves, and nothing of how fast it was."""
    points = json.loads((model_dir / HISTORY_NAME).read_text())
    return {
        "weights": sha256(model_dir / "model.safetensors"),
        "metrics": _timeless(manifest.read(model_dir).metrics),
        "points": [_timeless(point) for point in points],
    }


def _timeless(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if "second" not in name and "runtime" not in name}


def test_a_killed_training_goes_on_to_the_very_end_of_one_that_was_not(
    runs: Runs, uninterrupted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """At its first step, within an epoch, at the turn of one, beyond it, and at the last step."""
    steps = [1, 4, STEPS_OF_AN_EPOCH, STEPS_OF_AN_EPOCH + 1, 11, STEPS]
    reached = 0
    for step in steps:
        output = runs.killed(step)
        assert (f"continuing from step {reached} of {STEPS}" in output) is (reached > 0)
        reached = step - 1
    model_dir = runs.run()
    assert f"continuing from step {STEPS - 1} of {STEPS} (checkpoint of 20" in capsys.readouterr().out
    assert end(model_dir) == uninterrupted


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"lora_rank": 2, "gradient_accumulation": 2}, 9),
        ({"best_by": "loss", "early_stopping": 2, "evaluations": STEPS, "learning_rate": 3e-2}, 0),
    ],
    ids=["adapters and accumulation", "the best weights and the patience"],
)
def test_so_does_one_with(
    settings: dict[str, Any], step: int, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = end(runs.run(checkpoints="none", **settings))
    step = step or int(whole["metrics"]["steps"])
    assert step < STEPS
    runs.killed(step, **settings)
    assert end(runs.run(**settings)) == whole
    assert f"continuing from step {step - 1} of {STEPS}" in capsys.readouterr().out


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor would begin in fp32")
def test_one_that_had_to_begin_again_in_fp32_goes_on_in_fp32(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge_or_end() -> None:
        if "training again in fp32" in capsys.readouterr().out:
            raise KeyboardInterrupt
        raise DivergedError("the loss is nan", "")

    whole = end(runs.run(checkpoints="none", precision="fp32"))
    with happening(4, diverge_or_end), pytest.raises(KeyboardInterrupt):
        runs.run()
    assert end(runs.run()) == whole
    output = capsys.readouterr().out
    assert f"continuing from step 3 of {STEPS}" in output
    assert "bf16" not in output


def test_the_seconds_of_all_parts_count(runs: Runs, uninterrupted: dict[str, Any]) -> None:
    runs.killed(9)
    before = json.loads((runs.newest / "history.json").read_text())["seconds"]
    points = json.loads((runs.run() / HISTORY_NAME).read_text())
    last = next(point for point in points if "train_runtime" in point)
    assert last["train_runtime"] > before
    assert last["train_samples_per_second"] * last["train_runtime"] == pytest.approx(STEPS * BATCH, rel=1e-3)


def test_a_checkpoint_that_was_being_written_does_not_count(
    runs: Runs, uninterrupted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    runs.killed(6, event="on_save")
    assert runs.kept == ["step-4", "step-5", "writing"]
    model_dir = runs.run()
    assert "continuing from step 5 of" in capsys.readouterr().out
    assert end(model_dir) == uninterrupted


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(
    runs: Runs, uninterrupted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    runs.killed(6)
    os.truncate(runs.newest / "optimizer.pt", 100)
    model_dir = runs.run()
    output = capsys.readouterr().out
    assert "step-5 is damaged (optimizer.pt is not what was written): taking the one before it" in output
    assert "continuing from step 4 of" in output
    assert end(model_dir) == uninterrupted


def test_of_a_training_that_ended_well_its_model_alone_is_left(runs: Runs) -> None:
    runs.run(iterations=2)
    assert runs.kept == [FINISHED]


def test_a_training_shorter_than_the_interval_writes_no_checkpoint(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with happening(4, fail), pytest.raises(KeyboardInterrupt):
        runs.run(checkpoint_interval=300)
    assert runs.kept == []
    assert "there is no checkpoint yet; run again" in capsys.readouterr().out


@pytest.mark.parametrize(
    "other",
    [{"seed": 43}, {"learning_rate": 2e-2}, {"iterations": STEPS + 1}, {"dropout": 0.0}, {"batch_size": 8}],
    ids=str,
)
def test_other_arguments_begin_anew(runs: Runs, dataset_dir: Path, other: dict[str, Any]) -> None:
    *_, settings = runs.arguments()
    *_, others = runs.arguments(**other)
    summary = prepared.load(dataset_dir, ())[1]
    assert checkpoints.key_of(runs.encoder, summary, settings) != checkpoints.key_of(
        runs.encoder, summary, others
    )


KEYS = """
import sys
from pathlib import Path
from miniml.data import prepared
from miniml.settings.training import TrainingSettings
from miniml.training.checkpoints import key_of

encoder, dataset, code = map(Path, sys.argv[1:])
asked = encoder, prepared.load(dataset, ())[1], TrainingSettings()
before = key_of(*asked)
assert key_of(*asked) == before
code.write_text(code.read_text() + "# Another loss.")
assert key_of(*asked) != before
"""


def test_other_code_begins_anew(runs: Runs, dataset_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "miniml", tmp_path / "miniml", ignore=shutil.ignore_patterns("__pycache__"))
    code = tmp_path / "miniml" / "training" / "objective.py"
    subprocess.run(
        [sys.executable, "-c", KEYS, runs.encoder, dataset_dir, code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )


def test_another_pretrained_model_at_the_same_path_begins_anew(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.encoder = shutil.copytree(runs.encoder, tmp_path / "encoder")
    runs.killed(3, iterations=3)
    config = json.loads((runs.encoder / "config.json").read_text())
    (runs.encoder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-11}))
    runs.run(iterations=3)
    assert "continuing" not in capsys.readouterr().out


def test_where_and_how_often_checkpoints_go_changes_nothing(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.killed(3, iterations=3)
    kept = (runs.folder / "kept").rename(runs.folder / "moved")
    runs.run(iterations=3, checkpoints=str(kept), checkpoint_interval=10)
    assert "continuing from step 2 of 3" in capsys.readouterr().out


def test_sigterm_saves_first(
    runs: Runs, uninterrupted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    output = asked_to_end(
        9,
        *runs.arguments(checkpoint_interval=300),
        event="on_pre_optimizer_step",
        log=runs.folder / "log",
    )
    assert output == (
        f"stopped by SIGTERM after step 10 of {STEPS}: the last good checkpoint is {runs.newest}; "
        f"run again with the same arguments to go on from it."
    )
    assert end(runs.run(checkpoint_interval=300)) == uninterrupted
    assert f"continuing from step 10 of {STEPS}" in capsys.readouterr().out


def test_a_full_disk_ends_with_the_last_good_checkpoint_named(
    runs: Runs, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    small = tmp_path / "kept"
    small.mkdir()
    with small_disk(small, "1m"):
        with pytest.raises(StorageError) as full:
            runs.run()
        assert runs.kept
        assert str(full.value).startswith(
            f"the disk of {runs.newest.parent} is full, and a checkpoint could not be written: "
            f"the last good checkpoint is {runs.newest}; run again with the same arguments to go on from it. "
        )
        subprocess.run(["mount", "-o", "remount,size=100m", small], check=True)
        assert end(runs.run()) == uninterrupted


def test_of_two_at_once_the_second_keeps_none_and_says_so(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOCK_TIMEOUT", 0.0)
    runs.killed(3, iterations=3)
    with locked(runs.newest.parent):
        runs.run(iterations=3)
    output = capsys.readouterr().out
    assert (
        f"another process runs this very training and has its checkpoints in {runs.newest.parent}" in output
    )
    assert "continuing" not in output
    assert runs.newest.name == "step-2"


def test_what_nobody_came_back_for_is_removed_in_the_end(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path / "cache"))
    old, young = 64 * "a", 64 * "b"
    for name, age in ((old, checkpoints.MAX_AGE + 60), (young, 60)):
        folder = tmp_path / "cache" / "checkpoints" / name
        (folder / "step-1").mkdir(parents=True)
        long_ago = folder.stat().st_mtime - age
        os.utime(folder, (long_ago, long_ago))
    runs.run(iterations=1, checkpoints="")
    left = [path.name for path in (tmp_path / "cache" / "checkpoints").iterdir()]
    assert old not in left
    assert len(left) == 2  # The young one, and the model of this training.


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def no_step() -> None:
    raise AssertionError("a step was taken")


@pytest.mark.parametrize("elsewhere", [False, True], ids=["on this machine", "on another machine"])
def test_where_what_follows_the_training_fails_the_next_try_takes_the_model_that_it_has_made(
    elsewhere: bool,
    runs: Runs,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """KFP's launcher gives up after two tries within milliseconds to send a model to a store that restarts."""
    uri = "/outputs/{}/model"
    if elsewhere:
        request.getfixturevalue("store")
        uri = f"minio://{BUCKET}/v2/artifacts/{{}}/model"
    trained = contents(runs.run(uri.format("first"), checkpoints=""))
    assert "miniml: keeping the finished model (0 MB) for another try: " in capsys.readouterr().out
    shutil.rmtree(runs.folder / "model")
    if elsewhere:
        shutil.rmtree(os.environ["MINIML_CACHE"])
    with happening(1, no_step):
        model_dir = runs.run(uri.format("second"), checkpoints="")
    assert "this very training is finished already: its model is taken from " in capsys.readouterr().out
    assert contents(model_dir) == trained
    manifest.verify(model_dir)


def test_a_finished_model_is_taken_for_nothing_else(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest that tells another source, a search that may have ended it early, a log that is wanted, damage."""
    runs.run(iterations=2)
    runs.encoder = shutil.copytree(runs.encoder, tmp_path / "the same")
    output = manifest.read(runs.run(iterations=2)).arguments["pretrained"]
    assert str(tmp_path / "the same") in output
    fine_tune(*runs.arguments(iterations=2), search_digest="of a search")
    runs.run(iterations=2)
    runs.run(iterations=2, log_to=f"tensorboard://{tmp_path / 'log'}")
    [finished] = (runs.folder / "kept").glob(f"*/{FINISHED}")
    (finished / "config.json").unlink()
    runs.run(iterations=2, log_to=f"tensorboard://{tmp_path / 'log'}")
    output = capsys.readouterr().out
    assert "is damaged (config.json is missing): it is not taken" in output
    assert "finished already" not in output


def test_of_finished_models_the_oldest_go_where_they_take_too_much_room(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "FINISHED_BYTES", 1)
    for seed in (1, 2, 3):
        runs.run(iterations=1, checkpoints="", seed=seed)
    assert len(list((Path(os.environ["MINIML_CACHE"]) / "checkpoints").iterdir())) == 1


def test_so_they_do_in_a_folder_of_one_s_own_where_all_else_stays(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "FINISHED_BYTES", 1)
    kept = runs.folder / "kept"
    theirs = [kept / "reviews" / FINISHED, kept / (64 * "a") / "step-5"]
    for folder in theirs:
        folder.mkdir(parents=True)
    for seed in (1, 2, 3):
        runs.run(iterations=1, seed=seed)
    assert len(list(kept.iterdir())) == 3
    assert all(folder.exists() for folder in theirs)


def test_a_finished_model_that_no_disk_has_room_for_is_told_in_a_line(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs.folder / "kept").mkdir()
    with small_disk(runs.folder / "kept", "64k"):
        manifest.verify(runs.run(iterations=1, checkpoint_interval=3600))
    [output] = [line for line in capsys.readouterr().out.splitlines() if "is not kept" in line]
    assert "is not kept for another try: [Errno 28] No space left on device: " in output
    assert output.count("Errno") == 1  # Of several files.


def test_where_the_finished_model_cannot_be_kept_the_training_ends_well(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = S3Server(tmp_path / "s3")
    server.start()
    try:
        reached(server, monkeypatch, tmp_path)
        with happening(2, server.kill):
            runs.run(f"s3://{BUCKET}/model", iterations=2, checkpoints="", checkpoint_interval=3600)
    finally:
        server.stop()
    assert "the finished model is kept on this machine only: " in capsys.readouterr().out
    manifest.verify(runs.folder / "model")


def test_what_others_have_left_in_the_bucket_is_removed_in_the_end(
    runs: Runs, store: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [f"{64 * 'a'}/step-5/{name}" for name in ("model.safetensors", "sealed.json")]
    theirs = ["notes.txt", "reviews/train.csv", "searches/b/c.json"]
    for key in (*left, *theirs):
        store.client().fput_object(BUCKET, f"here/{key}", __file__)
    runs.run(iterations=1, checkpoints=f"s3://{BUCKET}/here")
    assert {f"here/{key}" for key in (*left, *theirs)} < set(in_store(store))
    monkeypatch.setattr(checkpoints, "MAX_AGE", -1)
    runs.run(iterations=1, checkpoints=f"s3://{BUCKET}/here", seed=7)
    assert "removing what an earlier training has left" in capsys.readouterr().out
    own = {key for key in in_store(store) if f"/{FINISHED}/" in key}
    assert own
    assert set(in_store(store)) - own == {f"here/{key}" for key in theirs}


@pytest.mark.parametrize("given", ["gs://bucket/path", "s3://bucket/name@v1"])
def test_an_address_that_cannot_hold_checkpoints_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="checkpoints"):
        TrainingSettings(checkpoints=given)


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    reached(s3_server, monkeypatch, tmp_path)
    return s3_server


def reached(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Says where the store is, and gives it an empty bucket."""
    client = server.client()
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    for key in in_store(server):
        client.remove_object(BUCKET, key)
    monkeypatch.setattr(mirror, "RETRY_TIMEOUTS", RetryTimeouts(first=0.5, later=0.5))
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])


def in_store(server: S3Server) -> list[str]:
    return [str(item.object_name) for item in server.client().list_objects(BUCKET, recursive=True)]


def test_another_machine_goes_on_from_the_store(
    runs: Runs,
    uninterrupted: dict[str, Any],
    store: S3Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f"s3://{BUCKET}/here"
    runs.killed(6, checkpoints=address)
    assert {key.split("/")[2] for key in in_store(store)} == {"step-4", "step-5"}
    shutil.rmtree(tmp_path / "cache")
    model_dir = runs.run(checkpoints=address)
    assert f"continuing from step 5 of {STEPS}" in capsys.readouterr().out
    assert end(model_dir) == uninterrupted
    assert {key.split("/")[2] for key in in_store(store)} == {FINISHED}


def test_a_checkpoint_that_is_not_whole_in_the_store_is_not_taken(
    runs: Runs, store: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was half sent, then one that was changed since."""
    address = f"s3://{BUCKET}/here"
    runs.killed(4, iterations=4, checkpoints=address)
    shutil.rmtree(tmp_path / "cache")
    key = in_store(store)[0].split("/")[1]
    store.client().fput_object(BUCKET, f"here/{key}/step-9/model.safetensors", __file__)
    store.client().fput_object(BUCKET, f"here/{key}/step-3/optimizer.pt", __file__)
    runs.run(iterations=4, checkpoints=address)
    output = capsys.readouterr().out
    assert "the checkpoint step-3 did not come from the store: " in output
    assert "continuing from step 2 of 4" in output
    assert {key.split("/")[2] for key in in_store(store)} == {FINISHED}


def test_a_store_that_is_lost_on_the_way_costs_no_training(
    runs: Runs,
    uninterrupted: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = S3Server(tmp_path / "s3")
    server.start()
    reached(server, monkeypatch, tmp_path)
    address = f"s3://{BUCKET}/here"
    try:
        with (
            happening(STEPS - 2, server.kill),
            happening(STEPS, interrupt_main),  # Ctrl-C, as Python hears it (see `asked_to_end`)
            pytest.raises(KeyboardInterrupt),
        ):
            runs.run(checkpoints=address)
        output = capsys.readouterr().out
        assert (
            f"the checkpoint of step {STEPS - 1} is on this machine only: checkpoints '{address}/" in output
        )
        assert f"/step-{STEPS - 1} (in {address}/" in output
        assert f": step-{STEPS - 3}); run again with the same arguments to go on from it." in output
        with pytest.raises(StoreError, match=r"the store at .* cannot be reached"):
            runs.run(checkpoints=address)
        server.start()
        assert end(runs.run(checkpoints=address)) == uninterrupted
        assert f"continuing from step {STEPS - 1}" in capsys.readouterr().out
    finally:
        server.stop()


def test_a_model_in_a_store_has_its_checkpoints_beside_it(
    runs: Runs, store: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    with happening(2, lambda: seen.extend(in_store(store))):
        runs.run(f"minio://{BUCKET}/v2/artifacts/model", iterations=2, checkpoints="")
    assert {key.rpartition("/step-1/")[0].rpartition("/")[0] for key in seen} == {"miniml/checkpoints"}


def test_a_store_that_nobody_asked_for_may_refuse(
    runs: Runs, store: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.run("s3://no-such-bucket/model", iterations=2, checkpoints="")
    assert "checkpoints are kept on this machine only, where no other finds them: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("/tmp/outputs/model", ""),
        ("gs://bucket/model", ""),
        ("s3://bucket/v2/model", "s3://bucket/miniml/checkpoints"),
        ("minio://mlpipeline/v2/model", ""),  # The environment does not say where that is.
    ],
)
def test_where_the_checkpoints_of_a_model_go(uri: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert checkpoints.beside(uri) == address
