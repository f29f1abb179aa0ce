"""The same training in two processes: the same steps, one model, and one voice."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForSequenceClassification

from miniml.data import preparation
from miniml.errors import InputError
from miniml.exit_status import TERMINATION_LOG, ExitStatus
from miniml.files.checksums import CHECKSUMS_NAME
from miniml.model import manifest
from miniml.model.classifier import made_up, padded
from miniml.model.history import HISTORY_NAME, read_history
from miniml.model.rows_apart import logits_of_rows
from miniml.settings.command_line import words_of
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.store import repository
from miniml.store.address import s3_address
from miniml.train_step.__main__ import main
from miniml.training.batches import SharedBatches
from miniml.training.checkpoints import FINISHED
from miniml.training.fine_tune import fine_tune
from miniml.training.processes import Processes
from miniml.training.trainable import choose_trainable, leaves_weights_out
from tests import families, tiny
from tests.command import ROOT
from tests.conftest import TRAINING
from tests.ports import free_port
from tests.s3_server import WRITER, S3Server

Together = tuple[Path, subprocess.CompletedProcess[str]]
"""The model of two processes, and what they printed."""
Interrupted = tuple[list[str], subprocess.Popen[str]]
TWO_PROCESSES = ("--standalone", "--nproc-per-node=2")


def started(*words: str, options: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    """The training's program, under torchrun with these options."""
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    return subprocess.Popen(
        [*command, "-m", "miniml.train_step", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchrun(*words: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Runs it in several processes to its end."""
    process = started(*words, options=("--standalone", f"--nproc-per-node={processes}"))
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def losses(model_dir: Path) -> list[float]:
    points: list[dict[str, Any]] = json.loads((model_dir / HISTORY_NAME).read_text())
    return [point["loss"] for point in points if "loss" in point]


@pytest.fixture(scope="module")
def settings(encoder: Path) -> TrainingSettings:
    # In fp32, for in bf16 the same sum in another order is another number.
    return TrainingSettings(model_id=str(encoder), **{**TRAINING, "iterations": 40}, precision="fp32")


@pytest.fixture(scope="module")
def alone(dataset_dir: Path, settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "model"
    fine_tune(dataset_dir, folder, settings)
    return folder


@pytest.fixture(scope="module")
def together(
    dataset_dir: Path, settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory
) -> Together:
    folder = tmp_path_factory.mktemp("together") / "model"
    done = torchrun(str(dataset_dir), str(folder), *words_of(settings))
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def interrupted(dataset_dir: Path, settings: TrainingSettings, tmp_path: Path) -> Interrupted:
    """A training of two processes that has a checkpoint and goes on, and the words to start it again."""
    saving = replace(settings, checkpoints=str(tmp_path / "checkpoints"), checkpoint_interval=0)
    words = [str(dataset_dir), str(tmp_path / "model"), *words_of(saving)]
    process = started(*words, options=TWO_PROCESSES)
    while not list(tmp_path.glob("checkpoints/*/step-*")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    return words, process


def test_two_processes_take_the_steps_of_one(alone: Path, together: Together) -> None:
    assert losses(together[0])[:10] == pytest.approx(losses(alone)[:10], abs=1e-4)
    one, two = manifest.verify(alone).metrics, manifest.verify(together[0]).metrics
    assert two["steps"] == one["steps"]
    assert two["validation_accuracy"] == pytest.approx(one["validation_accuracy"], abs=0.05)
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], abs=0.05)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of which an epoch in batches of 12 ends with one of 1 text, and validation in one of 9 (of 32)."""
    source, folder = tmp_path_factory.mktemp("uneven"), tmp_path_factory.mktemp("dataset") / "dataset"
    for split, begin, rows in (("train", 0, 73), ("validation", 73, 41), ("test", 114, 20)):
        lines = [
            json.dumps({"text": tiny.review(number % 2, number), "label": number % 2})
            for number in range(begin, begin + rows)
        ]
        (source / f"{split}.jsonl").write_text("\n".join(lines))
    preparation.prepare(DataSettings(dataset_id=str(source), near_duplicates="off"), folder)
    return folder


@pytest.mark.parametrize(("processes", "accumulation"), [(2, 1), (3, 2)])
def test_epochs_that_end_with_few_texts_are_those_of_one_process(
    processes: int, accumulation: int, uneven: Path, encoder: Path, tmp_path: Path
) -> None:
    # Three epochs and two steps, each of a size that keeps apart what rounding and what another text would do.
    settings = TrainingSettings(
        model_id=str(encoder),
        batch_size=12,
        gradient_accumulation=accumulation,
        iterations=3 * -(-73 // (12 * accumulation)) + 2,
        learning_rate=1e-3,
        evaluations=3,
        max_length=32,
        precision="fp32",
        linear_probe=False,
        best_by="last",
    )
    fine_tune(uneven, tmp_path / "one", settings)
    done = torchrun(str(uneven), str(tmp_path / "several"), *words_of(settings), processes=processes)
    assert done.returncode == 0, done.stderr
    one, several = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "several"))
    assert max(float((one[name] - several[name]).abs().max()) for name in one) < 1e-4
    history, expected = (read_history(tmp_path / name) for name in ("several", "one"))
    for point, other in zip(history, expected, strict=True):
        for figure in ("epoch", "loss", "eval_loss", "eval_accuracy"):
            assert point.get(figure) == pytest.approx(other.get(figure), abs=1e-4)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_processes_share_each_batch_of_one_evenly_and_repeat_nothing(processes: int) -> None:
    for texts in range(1, 64):
        shared = SharedBatches(range(texts), 15, processes)
        dealt = [
            list(BatchSamplerShard(shared, num_processes=processes, process_index=rank))
            for rank in range(processes)
        ]
        batches = list(zip(*dealt, strict=True))
        assert len(shared) == len(batches) * processes
        assert [list(itertools.chain(*parts)) for parts in batches] == [
            list(range(begin, min(begin + 15, texts))) for begin in range(0, texts, 15)
        ]
        sizes = [[len(part) for part in parts] for parts in batches]
        assert all(max(parts) - min(parts) <= 1 for parts in sizes)


def test_one_of_the_processes_speaks_and_writes(
    together: Together,
) -> None:
    folder, done = together
    assert done.stdout.count("miniml: training ") == 1
    assert done.stdout.count("miniml: trained: ") == 1
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_an_error_of_all_is_said_once_and_ends_all_with_its_status(
    dataset_dir: Path, settings: TrainingSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = words_of(replace(settings, learning_rate=1e30))
    monkeypatch.setenv(TERMINATION_LOG, str(tmp_path / "termination-log"))
    node = [
        sys.executable,
        "-m",
        "miniml.train_job.node",
        "2",
        str(dataset_dir),
        str(tmp_path / "model"),
        *diverging,
    ]
    done = subprocess.run(node, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == ExitStatus.FAILED
    assert re.findall(r"^error: [\w ]+", done.stderr, re.MULTILINE) == ["error: the training diverged"]
    assert (tmp_path / "termination-log").read_text().startswith("the training diverged: ")
    assert not (tmp_path / "model").exists()


def test_killed_processes_go_on_from_the_checkpoint_to_the_same_end(
    interrupted: Interrupted, together: Together, tmp_path: Path
) -> None:
    words, process = interrupted
    kill(process)
    goes_on_to_the_end_of(together[0], words, tmp_path)


def test_processes_that_are_told_to_end_save_first(
    interrupted: Interrupted, together: Together, tmp_path: Path
) -> None:
    words, process = interrupted
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    errors = re.findall(r"^error: stopped by SIGTERM after step (\d+) of 40: .*/step-\1;", err, re.MULTILINE)
    assert len(errors) == 1, err
    goes_on_to_the_end_of(together[0], words, tmp_path)


def test_nodes_that_share_no_disk_find_the_checkpoint_in_the_store(
    dataset_dir: Path,
    settings: TrainingSettings,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    client = s3_server.client()
    client.make_bucket("two-nodes")
    two = replace(settings, num_nodes=2, checkpoint_interval=0)
    words = [str(dataset_dir), "s3://two-nodes/run/model", *words_of(two)]

    def checkpoints() -> list[str]:
        objects = client.list_objects("two-nodes", "miniml/checkpoints/", recursive=True)
        return [str(item.object_name) for item in objects]

    first_try = nodes(words, tmp_path / "first")
    while not any(name.endswith(CHECKSUMS_NAME) for name in checkpoints()):
        assert first_try[0].poll() is None, first_try[0].communicate()[1]
        time.sleep(0.05)
    for process in first_try:
        kill(process)

    ended = [(process, *process.communicate()) for process in nodes(words, tmp_path / "second")]
    for process, _, err in ended:
        assert process.returncode == 0, err
    assert ended[0][1].count("miniml: continuing from step ") == 1
    assert {name.split("/")[3] for name in checkpoints()} == {FINISHED}
    trained = repository.cached("model", s3_address("model", "s3://two-nodes/run/model"))
    assert manifest.verify(trained.path).metrics["steps"] == 40


def nodes(words: list[str], folder: Path) -> list[subprocess.Popen[str]]:
    """A process on each of two nodes, whose disks are new."""
    port = free_port()
    where = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}")
    return [
        started(*words, options=(*where, f"--node-rank={rank}"), MINIML_CACHE=str(folder / f"node-{rank}"))
        for rank in range(2)
    ]


def kill(process: subprocess.Popen[str]) -> None:
    """Ends torchrun and what it started, as a node that is gone does: without a word to them."""
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.kill()
    process.communicate()


def goes_on_to_the_end_of(whole: Path, words: list[str], folder: Path) -> None:
    done = torchrun(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("miniml: continuing from step ") == 1
    assert losses(folder / "model") == losses(whole)
    expected, found = manifest.verify(whole).metrics, manifest.verify(folder / "model").metrics
    for figure in ("train_loss", "validation_loss", "validation_accuracy", "kept_step", "steps"):
        assert found[figure] == expected[figure]
    assert [path.name for path in (folder / "checkpoints").glob("*/*")] == [FINISHED]


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    """Of this process alone, in which DDP asks for a gradient of each weight as it does among several."""
    repository = dist.HashStore()  # type: ignore[attr-defined]  # it is documented
    dist.init_process_group("gloo", store=repository, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("kind", "given", "looked_for"),
    [
        ("bert", {}, False),
        ("bert", {"frozen_layers": 1}, False),
        ("bert", {"frozen_layers": -1}, False),
        ("bert", {"lora_rank": 2}, False),
        ("albert", {}, False),
        ("mixtral", {}, False),  # Its experts are one tensor.
        ("xlnet", {}, True),  # segments, which one text has none of
        ("xlnet", {"frozen_layers": -1}, False),
        ("luke", {}, True),  # entities
        ("bart", {"layerdrop": 0.1}, True),
    ],
)
def test_processes_look_for_weights_that_a_text_passes_by_where_there_are_any(
    kind: str, given: dict[str, Any], looked_for: bool, process_group: None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    dropped = {"encoder_layerdrop": given["layerdrop"]} if "layerdrop" in given else {}
    model = AutoModelForSequenceClassification.from_config(families.config_of(kind, **dropped))  # type: ignore[no-untyped-call]
    tokenizer = families.write_tokenizer(tmp_path, model_max_length=60)
    new = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("classifier", "score", "logits_proj"))
    }
    chosen = {name: value for name, value in given.items() if name != "layerdrop"}
    choose_trainable(model, new, TrainingSettings(**chosen))
    assert leaves_weights_out(model, tokenizer) is looked_for
    shared = DistributedDataParallel(model.train(), find_unused_parameters=looked_for)
    for lengths in ((3, 9), (20, 40), (2,)):  # A weight without a gradient is told at the next batch.
        ids, mask = (torch.from_numpy(array) for array in padded(tokenizer, made_up(tokenizer, *lengths)))
        logits_of_rows(shared, model.config, ids, mask).sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("processes", "given", "message"),
    [
        (Processes(count=2), {"batch_size": 15}, "batch_size is 15, and 2 processes cannot share it evenly"),
        (Processes(), {"num_nodes": 2}, "num_nodes is 2, but this was started on 1"),
        (Processes(count=2, nodes=2), {"num_nodes": 1}, "num_nodes is 1, but this was started on 2"),
    ],
)
def test_what_processes_cannot_share_is_refused(
    processes: Processes, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        processes.share_of(TrainingSettings(**{"batch_size": 16, **given}))


def test_the_program_alone_trains_as_the_function_does(
    dataset_dir: Path, settings: TrainingSettings, alone: Path, tmp_path: Path
) -> None:
    main([str(dataset_dir), str(tmp_path / "model"), *words_of(settings)])
    assert losses(tmp_path / "model") == losses(alone)


def test_the_program_alone_ends_with_its_error(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(dataset_dir), str(tmp_path / "model"), "--model-id=./no-such-folder"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: model_id './no-such-folder'")
