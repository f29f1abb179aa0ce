"""The train step watches over its training: a child that dies is started again, and what would fail again is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from miniml.errors import InputError, StoreError, TrainingProcessError
from miniml.exit_status import ExitStatus
from miniml.model import manifest
from miniml.settings.training import TrainingSettings
from miniml.supervision import memory_events
from miniml.supervision.supervisor import Retries
from miniml.train_step.watched import Trained, TrainingRequest, fine_tune_watched
from tests import patience
from tests.command import ROOT
from tests.killed import children_that_end

STEPS, KILLED = 12, "os.kill(os.getpid(), signal.SIGKILL)"
AT_ONCE = Retries(wait=0.0)

Watched = Callable[..., Trained]


def request(folder: Path, dataset_dir: Path, encoder: Path, **settings: Any) -> TrainingRequest:
    values: dict[str, Any] = {
        "model_id": str(encoder),
        "batch_size": 12,
        "iterations": STEPS,
        "max_length": 32,
        "precision": "fp32",
        "checkpoints": str(folder / "kept"),
        "checkpoint_interval": 0,
        **settings,
    }
    report = folder / "report.html"
    return TrainingRequest(dataset_dir, folder / "model", TrainingSettings(**values), report=report)


@pytest.fixture
def watched(tmp_path: Path, dataset_dir: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Trains in children that end in these ways after the sixth step."""

    def train(*ways: str, **settings: Any) -> Trained:
        (tmp_path / "ways").mkdir()
        for name, value in children_that_end(*ways, at_step=6, folder=tmp_path / "ways").items():
            monkeypatch.setenv(name, value)
        return fine_tune_watched(request(tmp_path, dataset_dir, encoder, **settings), AT_ONCE)

    return train


def children(folder: Path) -> int:
    """How many were started."""
    return len(list((folder / "ways" / "begun").iterdir()))


@pytest.fixture(scope="module")
def undisturbed(dataset_dir: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("undisturbed")
    return fine_tune_watched(request(folder, dataset_dir, encoder, checkpoints="none"))


def test_a_child_that_is_killed_is_started_again_and_makes_the_same_model(
    watched: Watched,
    undisturbed: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    half_written = tmp_path / "model.partial"
    crashed = f"os.makedirs({str(half_written)!r}); os.kill(os.getpid(), signal.SIGSEGV)"
    assert watched(KILLED, crashed).digest == undisturbed.digest
    output = capfd.readouterr().out
    assert "miniml: the training died (killed by SIGKILL): try 2 of 3, from its last checkpoint\n" in output
    assert "miniml: the training died (killed by SIGSEGV): try 3 of 3, from its last checkpoint\n" in output
    assert output.count(f"continuing from step 5 of {STEPS}") == 2
    assert not half_written.exists()
    assert not list(temporary.iterdir())
    assert manifest.verify(tmp_path / "model").digest == undisturbed.digest


def test_one_that_is_killed_again_and_again_ends_the_step(watched: Watched, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingProcessError, match=r"^the training died 3 times, the last time: killed by SIG"
    ):
        watched(*[KILLED] * 4)
    assert children(tmp_path) == 3


def test_for_want_of_memory_it_goes_on_with_half_the_batch_and_twice_the_accumulation(
    watched: Watched, undisturbed: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trained = watched("raise torch.OutOfMemoryError('CUDA out of memory.')")
    output = capfd.readouterr().out
    assert (
        "try 2 of 3, from its last checkpoint, with batches of 6 × 2 for as many texts in a step\n" in output
    )
    assert f"continuing from step 5 of {STEPS}" in output
    # The same steps of the same texts: what differs is how sums were rounded.
    for figure in ("train_loss", "validation_loss"):
        assert trained.metrics[figure] == pytest.approx(undisturbed.metrics[figure], abs=1e-4)
    model = manifest.verify(tmp_path / "model")
    assert model.arguments["training"]["batch_size"] == 12
    assert (model.arguments["used"]["batch_size"], model.arguments["used"]["gradient_accumulation"]) == (6, 2)
    page = (tmp_path / "report.html").read_text()
    assert "6, 2 of them in a step, as 12 did not fit into memory" in page
    assert r"| batch\_size | 6 |" in (tmp_path / "model" / "README.md").read_text()


def test_so_it_does_where_the_kernel_killed_it_for_want_of_memory(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("oom 0\noom_kill 3\n")
    monkeypatch.setattr(memory_events.oom_kills, "__defaults__", (tmp_path, tmp_path / "no-such-file"))
    watched(rf"Path({str(counter)!r}).write_text('oom 1\noom_kill 4\n'); {KILLED}", iterations=7)
    output = capfd.readouterr().out
    assert "died (killed by SIGKILL for want of memory): try 2 of 3" in output
    assert "with batches of 6 × 2" in output


def test_where_no_batch_is_small_enough_the_remedy_is_told(
    watched: Watched, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingProcessError, match=r"Lower max_length \(now 32\)"):
        watched(*["raise MemoryError"] * 3, batch_size=3, checkpoints="none")
    assert "try 2 of 3, from the beginning, with batches of 1 × 3" in capfd.readouterr().out
    assert children(tmp_path) == 2


def test_a_store_that_fails_is_tried_again_and_an_error_that_would_come_again_is_not(
    watched: Watched, undisturbed: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    away, wrong = "errors.StoreUnavailableError('the store is away')", "errors.StoreError('no such bucket')"
    with pytest.raises(StoreError, match=r"^no such bucket$"):
        watched(f"raise {away}", f"raise {wrong}")
    assert "the training died (the store is away): try 2 of 3" in capfd.readouterr().out
    assert children(tmp_path) == 2


def test_an_argument_that_cannot_be_used_is_told_once_and_not_tried_again(
    watched: Watched, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"^model_id './no-such-folder'"):
        watched(model_id="./no-such-folder")
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    assert children(tmp_path) == 1


def test_an_error_that_nobody_foresaw_keeps_its_traceback(
    watched: Watched, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingProcessError, match=r"^ZeroDivisionError: division by zero$"):
        watched("1 / 0")
    assert "Traceback (most recent call last)" in capfd.readouterr().err
    assert children(tmp_path) == 1


WATCHED = """
import sys, json
from pathlib import Path
from miniml.settings.training import TrainingSettings
from miniml.supervision.supervisor import Retries
from miniml.train_step.watched import TrainingRequest, fine_tune_watched
dataset, model, settings = sys.argv[1:]
fine_tune_watched(TrainingRequest(Path(dataset), Path(model), TrainingSettings(**json.loads(settings))), Retries())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_child_saves_and_ends_with_its_parent(
    number: signal.Signals, tmp_path: Path, dataset_dir: Path, encoder: Path
) -> None:
    """However the parent ends: told to, killed, or by Ctrl-C, which reaches both."""
    asked = request(tmp_path, dataset_dir, encoder, iterations=100_000, checkpoint_interval=3600)
    words = [str(asked.dataset_dir), str(asked.model_dir), json.dumps(vars(asked.settings))]
    environment = {**os.environ, "MINIML_PROGRESS_SECONDS": "0"}
    parent = subprocess.Popen(
        [sys.executable, "-c", WATCHED, *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout and parent.stderr
    for line in parent.stdout:
        if line.startswith("miniml~ ") and "steps" in line:
            break
    [child] = psutil.Process(parent.pid).children()
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    out, err = parent.communicate(timeout=patience.SECONDS)
    patience.wait_until(lambda: not child.is_running())
    kept = [path.name.partition("-")[0] for path in (tmp_path / "kept").glob("*/*")]
    assert kept == ([] if number == signal.SIGINT else ["step"])
    assert not (tmp_path / "model").exists()
    if number == signal.SIGTERM:
        assert "StoppedError: stopped by SIGTERM after step " in err
    assert "the training died" not in out


def test_a_child_that_is_killed_once_the_parent_was_told_to_end_is_not_started_again(
    tmp_path: Path, dataset_dir: Path, encoder: Path
) -> None:
    killed_by_the_next = f"signal.signal(signal.SIGTERM, lambda *_: {KILLED})"
    way = f"{killed_by_the_next}; os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    asked = request(tmp_path, dataset_dir, encoder)
    words = [str(asked.dataset_dir), str(asked.model_dir), json.dumps(vars(asked.settings))]
    (tmp_path / "ways").mkdir()
    environment = {**os.environ, **children_that_end(way, at_step=6, folder=tmp_path / "ways")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "StoppedError: stopped by SIGTERM; run again with the same arguments to go on." in done.stderr
    assert "the training died" not in done.stdout
    assert children(tmp_path) == 1


def test_the_parent_imports_nothing_of_the_training_s() -> None:
    script = (
        "import sys, miniml.train_step.watched; "
        "print({'torch', 'transformers', 'datasets', 'matplotlib', 'minio'} & sys.modules.keys() or '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


def test_a_training_replaces_no_folder_of_other_things(
    dataset_dir: Path, encoder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    words = [str(dataset_dir), str(tmp_path), f"--model-id={encoder}"]
    ended = subprocess.run(
        [sys.executable, "-m", "miniml.train_step", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == ExitStatus.FAILED
    assert ended.stderr == (
        f"error: {tmp_path} holds files without miniml.json or failure.json: it is no earlier output, and would be "
        f"lost. Name a new folder.\n"
    )
    assert kept.read_text() == "mine"
