"""A run's record on a cluster stays far below the size from which on KFP no longer tells how the run stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniml.kubeflow.workflow_size import LIMIT, describe_size, turns_that_fit, workflow_size
from miniml.settings.search import SearchSettings
from tests.command import ROOT

COMPILED = ROOT / "pipelines" / "compiled"


@pytest.fixture(scope="module")
def whole() -> str:
    return (COMPILED / "text_classification.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def search() -> str:
    return (COMPILED / "hyperparameter_search.yaml").read_text(encoding="utf-8")


def test_a_run_stays_well_below_half_of_the_limit(whole: str) -> None:
    size = workflow_size(whole)
    assert size.total < 0.48 * LIMIT, size.by_task
    # A container is three templates, a DAG two, and each may be tried again: 2 for the entry point, 4 for the
    # pipeline, 6 for each of seven stages, 4 for the condition.
    assert size.nodes == 2 + 4 + 7 * 6 + 4


def test_a_search_of_as_many_trials_as_there_are_by_default_fits(search: str) -> None:
    trials = SearchSettings().trials
    assert turns_that_fit(search) >= trials + 1
    assert workflow_size(search, turns=turns_that_fit(search)).total <= LIMIT
    # What was seen on a cluster: 87 nodes, of nine stages and two trials; now there are eight.
    assert workflow_size(search, turns=2).nodes == 87 - 6


def test_what_a_stage_says_of_itself_counts_nine_times(whole: str) -> None:
    longer = whole.replace("plan_run(", f"plan_run_{100 * 'x'}(")
    assert longer != whole
    assert workflow_size(longer).total - workflow_size(whole).total == pytest.approx(900, abs=15)


def test_no_source_in_a_pipeline_has_words_that_only_people_read(whole: str, search: str) -> None:
    for compiled in (whole, search):
        assert "Args:" not in compiled.partition("deploymentSpec")[2]
        assert "description:" not in compiled.partition("components:")[2].partition("pipelineInfo")[0]


def test_compiling_says_how_large_it_is(whole: str, search: str) -> None:
    assert describe_size(whole).endswith("% of the limit")
    assert describe_size(search).endswith("trials fit")


def test_the_components_own_files_say_what_each_input_is() -> None:
    for path in Path(COMPILED / "components").glob("*.yaml"):
        assert "description:" in path.read_text(encoding="utf-8"), path.name
