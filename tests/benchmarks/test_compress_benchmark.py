"""The bench of smaller models cuts one for real, and its page sets each against the full one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.compress import Half, measure_here, section
from tests import tiny
from tests.benchmarks.machine import MACHINE


def test_a_tiny_model_is_measured_beside_what_is_left_of_it(encoder: Path) -> None:
    texts = [tiny.review(number % 2, number) for number in range(8)]
    measured = measure_here(str(encoder), Half("reviews", "", 64, 8), texts)
    assert [point["layers"] for point in measured["points"]] == [2, 1]
    assert measured["points"][0]["ratio"] == 1
    assert measured["points"][1]["texts_per_second"] > 0


def recorded(ratio: float) -> dict[str, Any]:
    """A made-up run of a model with six layers and three."""
    points = [
        {"layers": layers, "engine": "openvino-fp32", "texts_per_second": 100 * times, "ratio": times}
        for layers, times in ((6, 1.0), (3, ratio))
    ]
    return {
        "machine": MACHINE,
        "command": "make bench-compress",
        "halves": {"short": {"title": "sentences", "tokens": 27.6, "points": points}},
    }


def test_the_page_says_how_much_faster_a_half_is_and_whether_that_was_wanted() -> None:
    page = section(recorded(2.25))
    assert "## Fewer layers, avx2" in page
    assert "| layers | sentences, 28 tokens in the mean |" in page
    assert "| 3 | **2.25** (225 texts/s, openvino-fp32) |" in page
    assert "| texts/s with half of the layers, to all: short | 2.25 | ≥ 2 | yes |" in page
    assert "| 1.50 | ≥ 2 | **no** |" in section(recorded(1.5))
