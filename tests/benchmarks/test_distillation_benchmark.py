"""The bench of what fewer layers lose trains for real, and its page sets each model against the full one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from benchmarks.distillation import measure_here
from benchmarks.distillation_page import distillation_section
from tests import tiny
from tests.benchmarks.machine import MACHINE


def test_a_tiny_model_is_trained_and_taught_to_what_is_left_of_it(encoder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("train", "test")):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("text", "label"))
            table.writerows((tiny.review(row % 2, 100 * number + row), row % 2) for row in range(40))
    full, smaller = measure_here(str(encoder), tmp_path, 1, {"max_length": 32, "batch_size": 8})
    assert (full["layers"], smaller["layers"]) == (2, 1)
    assert full["agreement"] == 1
    assert len(full["right"]) == len(smaller["right"]) == 40


def test_the_page_says_what_a_smaller_model_loses_on_the_rows_that_both_answered() -> None:
    points: list[dict[str, Any]] = []
    for seed in (1, 2):
        points.append({"half": "short", "seed": seed, "layers": 6, "right": [1, 1, 1, 0], "agreement": 1.0})
        points.append({"half": "short", "seed": seed, "layers": 3, "right": [1, 1, 0, 0], "agreement": 0.75})
    page = distillation_section(
        {
            "machine": MACHINE,
            "command": "make bench-distillation",
            "halves": {
                "short": {"title": "sentences", "train_rows": 6000},
                "long": {"title": "", "train_rows": 1},
            },
            "points": points,
        }
    )
    assert "Sentences, 6,000 rows to learn from, 8 to be tested on:" in page
    assert "| 6 | 0.750 (0.750, 0.750) | — | 100.0 % |" in page
    assert "| 3 | 0.500 (0.500, 0.500) | -25.0 (" in page
    assert "| 75.0 % |" in page
