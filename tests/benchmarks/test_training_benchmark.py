"""The training bench trains each way for real, and its page tells what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import training, training_page
from benchmarks.training import Measured, measure_here
from tests.benchmarks.machine import MACHINE


@pytest.mark.parametrize("way", training.WAYS)
def test_each_way_trains_a_tiny_model(
    way: str, encoder: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MAX_LENGTH", 32)
    measured = measure_here(way, encoder, dataset_dir, samples=32)
    assert measured["samples_per_second"] > 0
    assert measured["seconds"] > 0
    assert measured["accuracy"] is None  # of random weights it would tell nothing


def test_a_saved_model_is_asked_about_the_held_out_rows(model_dir: Path, dataset_dir: Path) -> None:
    value, low, high = training.accuracy(model_dir, dataset_dir)
    assert 0.9 <= value <= 1
    assert low <= value <= high


def recorded(ours: float) -> dict[str, Any]:
    """A made-up run in which miniml trains on `ours` reviews a second, the prototype on 2 and the Trainer on 8."""
    rates = {"prototype": 2.0, "trainer": 8.0, "miniml": ours}
    points = [
        vars(
            Measured(model, way, 800, rate, 90.0, 1500.0, [0.8, 0.75, 0.85] if model == "MiniLM-L6" else None)
        )
        for model in ("MiniLM-L6", "bert-base")
        for way, rate in rates.items()
    ]
    rows = {"train": 800, "validation": 100, "test": 1000}
    return {
        "machine": MACHINE,
        "command": "make bench-train",
        "rows": rows,
        "max_length": 512,
        "points": points,
    }


def test_an_aim_of_training_that_was_missed_is_called_missed() -> None:
    met = [reached for *_, reached in training_page.aims(recorded(ours=16.0))]
    assert met == [True] * 5
    met = [reached for *_, reached in training_page.aims(recorded(ours=15.0))]
    assert met == [False, False, True, False, False]


def test_the_training_page_tells_the_figures_of_the_run() -> None:
    section = training_page.training_section(recorded(ours=15.0))
    assert (
        "| MiniLM-L6 | (c) miniml | 800 | **15.00** | 7.5 × | 90 | 1,500 | 0.800 (0.750 to 0.850) |"
        in section
    )
    assert "| bert-base: samples/s, (c) to (b) | 1.9 | ≥ 2 | **no** |" in section
