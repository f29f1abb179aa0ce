"""What a local run has started ends with it, however it is ended, and nothing keeps training or listening."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from miniml.local.ask import ask, serving_in_a_process
from tests import patience
from tests.command import ROOT


def at_work(folder: Path) -> list[psutil.Process]:
    """The processes whose command names the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        named = any(str(folder) in word for word in process.info["cmdline"] or [])
        if named and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_leaves_no_stage_training(
    number: signal.Signals, reviews: Path, encoder: Path, tmp_path: Path
) -> None:
    words = ["run", f"--outputs={tmp_path}", f"--dataset-id={reviews}", f"--model-id={encoder}"]
    with started("-m", "miniml", *words, "--iterations=100000") as process:
        assert process.stdout
        for line in process.stdout:
            if "steps of" in line:
                break
        assert len(at_work(tmp_path)) > 1
        process.send_signal(number)
        _, output = process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}" in output
    assert at_work(tmp_path) == []


def test_what_threads_start_after_the_signal_ends_too() -> None:
    """As kfp.local starts the trials of a search, one after another, and waits for all of them."""
    script = (
        "import subprocess, sys; from concurrent.futures import ThreadPoolExecutor\n"
        "from miniml.local.children import ended_with_us\n"
        "words = [sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(10_000)']\n"
        "with ended_with_us(), ThreadPoolExecutor(1) as pool:\n"
        "    for started in [pool.submit(subprocess.run, words) for _ in range(3)]:\n"
        "        started.result()\n"
    )
    with started("-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 128 + signal.SIGTERM


def test_the_predictor_that_a_run_asks_ends_with_it(model_dir: Path) -> None:
    script = (
        "import time; from pathlib import Path; from miniml.local.children import ended_with_us; "
        "from miniml.local.ask import serving_in_a_process\n"
        f"with ended_with_us(), serving_in_a_process(Path({str(model_dir)!r}), 'food') as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(10_000)\n"
    )
    with started("-c", script) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        [predictor] = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=patience.SECONDS)
    assert not predictor.is_running()


def test_a_run_asks_its_predictor_with_the_token_that_the_predictor_asks_for(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIML_TOKEN", "s" * 32)
    [answer] = ask(serving_in_a_process, model_dir, "food", ["great wonderful tasty"])
    assert answer["label"] == "good"
