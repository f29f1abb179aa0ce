"""The bench of ways to fine-tune trains for real, and its page compares each seed with the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import recipes_page
from benchmarks.recipes import HALVES, RECIPES, SEEDS, TRAINER, measure_here, write_rows
from miniml.training import course
from miniml.training.pretrained import Pretrained
from miniml.training.trainer import ClassifierTrainer
from tests import tiny
from tests.benchmarks.machine import MACHINE
from tests.conftest import TRAINING


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    tiny.write_reviews(folder / "train.csv", rows=200)
    tiny.write_reviews(folder / "test.csv", rows=60)
    return folder


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_a_tiny_model(
    recipe: str, encoder: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A recipe changes its process for good; these are put back.
    monkeypatch.setattr(course, TRAINER, ClassifierTrainer)
    monkeypatch.setattr(Pretrained, "classifier", Pretrained.classifier)
    measured = measure_here(recipe, str(encoder), rows, 1, {**TRAINING, "frozen_layers": 0})
    assert len(measured["right"]) == len(measured["losses"]) > 0
    if recipe != "before":  # Both of the tiny model's layers stay.
        assert np.mean(measured["right"]) > 0.6


def test_no_row_is_tested_with_two_seeds(tmp_path: Path) -> None:
    tested: list[str] = []
    for seed in SEEDS:
        write_rows(HALVES["short"], seed, tmp_path)
        train, test = (
            set((tmp_path / f"{name}.csv").read_text().splitlines()[1:]) for name in ("train", "test")
        )
        assert not train & test
        tested += test
    assert len(tested) == len(set(tested))


def recorded() -> dict[str, Any]:
    """A made-up run of two recipes and two seeds: the second is right on one row of four more, and surer of all."""
    points = []
    for seed in (1, 2):
        points.append(_point("before", seed, [1, 1, 0, 0] * 50, 0.7))
        points.append(_point("default", seed, [1, 1, 1, 0] * 50, 0.5))
    return {
        "machine": MACHINE,
        "command": "make bench-recipes",
        "titles": {"before": "as before", "default": "otherwise"},
        "halves": {"short": "sentences"},
        "points": points,
    }


def _point(recipe: str, seed: int, right: list[int], loss: float) -> dict[str, Any]:
    losses = [loss + 0.001 * (row % 2) for row in range(len(right))]
    return {
        "half": "short",
        "recipe": recipe,
        "seed": seed,
        "seconds": 1.0,
        "train_rows": 90,
        "right": right,
        "losses": losses,
    }


def test_the_page_tells_the_difference_and_how_sure_it_is() -> None:
    section = recipes_page.recipes_section(recorded())
    assert "## Ways to fine-tune, avx2\n" in section
    assert "Sentences, 90 rows to learn from and 400 to be tested on" in section
    assert "| as before | 0.500 (0.500, 0.500) | — | 0.701 | — |" in section
    assert "| otherwise | 0.750 (0.750, 0.750) | **+25.0 (+2" in section
    assert "| **-0.200 (-0.200 to -0.200)** |" in section


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    """Two recipes that are equally good: 95 of 100 intervals hold 0, give or take what chance does."""
    draws = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        one, other = (draws.random((2, 300)) < 0.8).astype(float)
        _, low, high = recipes_page.difference(one, other)
        held += low <= 0 <= high
    assert 182 <= held <= 198
