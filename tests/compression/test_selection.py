"""The fastest smaller model that is not inferior is chosen on the validation rows, and reasons are given."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from miniml.compression.outcome import MeasuredModel, Selection
from miniml.compression.selection import select
from miniml.evaluation.result import Comparison, Estimate, NonInferiority
from tests import tiny

FIGURE = Estimate(0.9, 0.88, 0.92)
FULL = MeasuredModel("full", "the model that was trained", "f" * 64, 6, 256, FIGURE, "torch-fp32", 50.0, 1.0)


@dataclass(frozen=True)
class Made:
    """A smaller model that somebody made."""

    name: str
    folder: Path
    description: str = "made for a test"


def candidate(name: str, ratio: float, p_value: float, needed: int = 5000) -> MeasuredModel:
    comparison = Comparison("f" * 64, 0.9, 9, 11, Estimate(-0.002, -0.006, 0.002), 0.7)
    test = NonInferiority(comparison, 0.005, p_value, 1000, needed)
    return replace(FULL, name=name, description=f"{name} layers", ratio=ratio, test=test)


def selection(*candidates: MeasuredModel) -> Selection:
    return Selection("accuracy", 1000, 2000, FULL, list(candidates))


def test_the_fastest_model_that_is_not_inferior_is_chosen() -> None:
    found = selection(candidate("3", 1.9, 0.01), candidate("2", 2.8, 0.3), candidate("4", 1.4, 0.001))
    assert found.chosen is not None
    assert found.chosen.name == "3"
    assert found.reason == (
        "3 (3 layers) is 1.9 × as fast, and shown on 1,000 validation rows to lose less than 0.5 points (p = 0.01)"
    )
    assert found.scalars()["speed_ratio"] == 1.9


def test_a_model_that_is_hardly_faster_is_not_worth_it() -> None:
    found = selection(candidate("5", 1.1, 0.001))
    assert found.chosen is None
    assert found.candidates[0].verdict == "not worth it: 1.1 × as fast, less than 1.2"
    assert found.reason == "no smaller model is 1.2 × as fast as the full one"


def test_where_the_rows_are_too_few_it_says_how_many_it_would_take() -> None:
    found = selection(candidate("3", 1.9, 0.2, 14_000), candidate("2", 2.8, 0.3, 20_000))
    assert found.chosen is None
    assert "1,000 rows are too few to tell, it would take about 20,000" in found.candidates[1].verdict
    assert "1,000 validation rows are too few" in found.reason
    assert "about 14,000" in found.reason


def test_models_that_lose_more_than_the_margin_are_called_inferior() -> None:
    found = selection(candidate("1", 4.0, 0.99, 0))
    assert found.candidates[0].verdict.startswith("inferior, as measured: it loses 0.5 points or more")
    assert "every faster model loses max_loss or more" in found.reason


def test_without_candidates_it_says_so() -> None:
    assert selection().reason == "no smaller model could be made of this one"


def test_real_models_are_asked_the_same_validation_rows_and_timed_beside_each_other(
    model_dir: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    same = Made("same", shutil.copytree(model_dir, tmp_path / "same"))
    untrained = Made("untrained", tiny.write_classifier(tmp_path / "untrained"))
    found = select(dataset_dir, model_dir, [same, untrained], max_loss=0.3)
    twin, worse = found.candidates
    assert found.full is not None
    assert (found.validation_rows, found.full.ratio) == (24, 1.0)
    assert twin.test is not None
    assert worse.test is not None
    assert (twin.test.passed, twin.test.comparison.gain.value) == (True, 0.0)
    assert (twin.figure, twin.digest, twin.max_length) == (found.full.figure, found.full.digest, 32)
    assert (worse.test.passed, worse.test.rows_needed) == (False, 0)
    assert worse.figure.value < found.full.figure.value
    assert all(each.texts_per_second > 0 and each.ratio > 0 for each in found.candidates)


def test_the_selection_is_stored_with_its_verdicts(tmp_path: Path) -> None:
    selection(candidate("3", 1.9, 0.01)).save(tmp_path / "selection.json")
    stored = json.loads((tmp_path / "selection.json").read_text())
    assert (stored["chosen"], stored["candidates"][0]["verdict"]) == ("3", "not inferior")
    assert Selection.read(tmp_path / "selection.json") == selection(candidate("3", 1.9, 0.01))


@pytest.mark.parametrize("figure", ["speed_ratio", "p_value"])
def test_where_nothing_was_chosen_there_are_no_figures_of_it(figure: str) -> None:
    assert figure not in selection(candidate("3", 1.9, 0.2)).scalars()
