"""The bench of a GPU: the very script on tiny models on the CPU, and what its page says. It has not run on a GPU."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import page
from benchmarks.gpu import Budget, Trainings
from benchmarks.gpu_page import aims, gpu_section, write_gpu_page
from benchmarks.gpu_tasks import TASKS
from benchmarks.page import PAGE
from tests.command import ROOT


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_ends_at_once_and_says_so() -> None:
    done = bench()
    assert done.returncode == 1
    assert "error: device 'cuda' is not on this machine; torch sees: cpu" in done.stderr
    assert "--device cpu --quick tries it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_that_it_ends_at_once_is_because_it_loads_no_library_but_torch() -> None:
    heavy = ("transformers", "accelerate", "datasets", "sklearn", "serving")
    code = (
        "import sys; from benchmarks import gpu; sys.argv[1:] = []; status = gpu.main(); "
        f"sys.exit(status != 1 or bool(set({heavy}) & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_fails_or_has_no_time_left_is_told_and_the_rest_is_measured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainings = Trainings("cpu", tmp_path, {True: tmp_path, False: tmp_path}, Budget(math.inf))
    trainings.run(TASKS[0], "miniml")
    trainings.budget = Budget(0)
    trainings.run(TASKS[1], "compiled")
    assert not trainings.points
    assert trainings.failed == ["the demo: MiniLM-L6, sentences, miniml (exit status 1)"]
    assert trainings.left_out == ["bert-base's size, reviews, compiled"]
    assert str(tmp_path / "demo" / "dataset") in capfd.readouterr().err


def test_each_kind_of_gpu_has_a_section_which_a_later_run_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "benchmarks.md"
    monkeypatch.setattr(page, "PAGE", file)
    for device, share in (("NVIDIA H200", 0.3), ("NVIDIA L4", 0.35), ("NVIDIA H200", 0.45)):
        write_gpu_page(recorded(share, accuracy=0.8) | {"device": device})
    text = file.read_text()
    assert text.count("## GPU: NVIDIA H200") == text.count("## GPU: NVIDIA L4") == 1
    assert "| large: (c)'s share of the peak rate in bf16 | 45% | 35% | ≥ 40 % |" in text


def test_it_trains_and_serves_each_way_and_leaves_the_page_alone() -> None:
    before = PAGE.read_text()
    done = bench("--device", "cpu", "--quick")
    assert done.returncode == 0, done.stderr
    for words in ("| (b) the Trainer's own | 128 |", "| (c) miniml | 128 |", "4 clients", "torch-fp32"):
        assert words in done.stdout
    assert PAGE.read_text() == before


def recorded(share: float, accuracy: float) -> dict[str, Any]:
    """A made-up run on a GPU, with this share of its rate and this accuracy of the demo."""

    def point(task: str, way: str, rate: float, value: float | None) -> dict[str, Any]:
        interval = None if value is None else [value, value - 0.02, value + 0.02]
        return {
            "task": task,
            "way": way,
            "samples": 1000,
            "samples_per_second": rate,
            "utilization": share,
            "peak_mib": 4000.0,
            "accuracy": interval,
        }

    return {
        "machine": {"processor": "P", "cores": 2, "python": "3", "versions": "V 1", "date": "2026-01-01"},
        "device": "NVIDIA H100 80GB HBM3",
        "cuda": "13.0",
        "command": "make bench-gpu",
        "batch": 64,
        "seconds": 300.0,
        "points": [
            point("demo", "trainer", 100.0, 0.8),
            point("demo", "miniml", 400.0, accuracy),
            point("large", "miniml", 50.0, None),
        ],
        "serving": None,
        "left_out": ["serving"],
        "failed": ["large, compiled (exit status 1)"],
    }


def test_the_page_tells_the_figures_of_the_run_and_what_was_left_out() -> None:
    section = gpu_section(recorded(share=0.45, accuracy=0.8))
    assert "## GPU: NVIDIA H100 80GB HBM3" in section
    assert (
        "| demo | (c) miniml | 1,000 | **400.0** | 4.0 × | 45% | 4,000 | 0.800 (0.780 to 0.820) |" in section
    )
    assert "Left out for want of time: serving." in section
    assert "Failed: large, compiled (exit status 1)." in section


def test_an_aim_that_was_missed_is_called_missed() -> None:
    assert [met for *_, met in aims(recorded(share=0.4, accuracy=0.79))] == [True, True]
    assert [met for *_, met in aims(recorded(share=0.39, accuracy=0.77))] == [False, False]
