"""The bench of what makes training fast trains for real, and its page sets each seed against the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import levers, levers_page
from benchmarks.levers import DEFAULT, LEVERS, measure_here
from tests.benchmarks.machine import MACHINE


@pytest.mark.parametrize("name", [name for name, lever in LEVERS.items() if not lever.constants])
def test_a_lever_trains_a_tiny_model(name: str, encoder: Path, dataset_dir: Path) -> None:
    measured = measure_here(name, 1, str(encoder), dataset_dir, samples=32)
    assert measured["samples_per_second"] > 0
    assert 0 <= measured["accuracy"] <= 1


@pytest.mark.parametrize("name", [name for name, lever in LEVERS.items() if lever.constants])
def test_a_lever_that_is_no_argument_moves_something_that_is_there(name: str) -> None:
    for constant, value in LEVERS[name].constants.items():
        assert type(getattr(*levers.place_of(constant))) is type(value)


def recorded() -> dict[str, Any]:
    """A made-up run of two levers and two seeds."""
    figures = {DEFAULT: [(10.0, 0.80), (12.0, 0.90)], "fp32": [(5.0, 0.81), (5.5, 0.88)]}
    points = [
        {
            "lever": name,
            "title": LEVERS[name].title,
            "seed": seed,
            "samples_per_second": rate,
            "peak_mib": 1000.0,
            "accuracy": accuracy,
        }
        for name, of_seeds in figures.items()
        for seed, (rate, accuracy) in enumerate(of_seeds, start=1)
    ]
    return {
        "machine": MACHINE,
        "command": "make bench-levers",
        "samples": 800,
        "texts_in_step": 8,
        "test_rows": 1000,
        "points": points,
    }


def test_the_page_sets_each_seed_against_the_same_seed_by_default() -> None:
    section = levers_page.levers_section(recorded())
    assert "2 seeds" in section
    assert "| as it is by default | **11.0** | 1.00 × | 1,000 | 0.850 (0.800, 0.900) | — |" in section
    assert (
        "| fp32, not bf16 | **5.2** | 0.48 × | 1,000 | 0.845 (0.810, 0.880) | -0.005 (-0.020 to +0.010) |"
        in section
    )
