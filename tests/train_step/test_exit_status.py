"""A process that trained says by its exit status whether another try may end better."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from miniml.errors import (
    InputError,
    MinimlError,
    StoppedError,
    StoreError,
    TrainingError,
    TrainingProcessError,
)
from miniml.exit_status import ExitStatus, read_error_file, status_of, write_error_file
from miniml.store.connection import Bucket, RetryTimeouts
from miniml.training.trainer import DivergedError
from tests.command import ROOT
from tests.ports import free_port


def raised(what: str) -> BaseException:
    try:
        if what == "main memory":
            torch.empty(10**15)
        if what == "a device's memory":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if what == "a device's memory, as CUDA tells it":
            raise torch.AcceleratorError("CUDA error: out of memory", 2)
        if what == "a device's memory, as a library tells it":
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        if what == "Python's memory":
            bytearray(2**62)
        if what == "memory, as a library tells it":
            try:
                bytearray(2**62)
            except MemoryError as error:
                raise RuntimeError("the batch cannot be made") from error
    except (RuntimeError, MemoryError) as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "what",
    [
        "main memory",
        "a device's memory",
        "a device's memory, as CUDA tells it",
        "a device's memory, as a library tells it",
        "Python's memory",
        "memory, as a library tells it",
    ],
)
def test_a_want_of_memory_is_told_from_other_errors(what: str) -> None:
    assert status_of(raised(what)) is ExitStatus.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoppedError("stopped by SIGTERM"), ExitStatus.STOPPED),
        (InputError("no such file"), ExitStatus.FAILED),
        (StoreError("it has no bucket of that name"), ExitStatus.FAILED),
        (ZeroDivisionError(), ExitStatus.FAILED),
    ],
    ids=repr,
)
def test_so_is_a_stop_from_what_would_fail_again(error: Exception, status: ExitStatus) -> None:
    assert status_of(error) is status


def test_a_store_out_of_reach_may_be_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    bucket = Bucket("food", "s3://food", RetryTimeouts(first=0.1, later=0.1))
    with pytest.raises(MinimlError) as error:
        bucket.listing("")
    assert status_of(error.value) is ExitStatus.UNAVAILABLE


def test_its_error_is_told_by_its_kind(tmp_path: Path) -> None:
    assert read_error_file(tmp_path / "words") is None  # A process that was killed has none.
    for error, kind in (
        (DivergedError("the loss is nan", "Lower it."), TrainingError),
        (StoreError("absent"), StoreError),
        (KeyError("rows"), TrainingProcessError),
    ):
        write_error_file(tmp_path / "words", error)
        read = read_error_file(tmp_path / "words")
        assert type(read) is kind
        assert str(read) == (str(error) if isinstance(error, MinimlError) else "KeyError: 'rows'")


def test_the_program_ends_with_it(dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-m", "miniml.train_step", str(dataset_dir), str(tmp_path / "model")]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for given, status in (
        ("--model-id=./no-such-folder", ExitStatus.FAILED),
        ("--no-such-option", ExitStatus.MISUSED),
        ("--model-id=someone/something", ExitStatus.UNAVAILABLE),
    ):
        done = subprocess.run([*words, given], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
