"""The arguments of a run: fields and options, in their own types, with one default wherever they appear."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.dsl.base_component import BaseComponent

from miniml.errors import InputError
from miniml.pipeline.arguments import defaults
from miniml.pipeline.compiled import CompiledPipeline
from miniml.preflight.run_plan import plan_run
from miniml.search.plan import pins_of, run_arguments_of
from miniml.settings.arguments import (
    FIELDS,
    OPTIONS,
    SETTINGS,
    TAKEN_BY,
    arguments_of,
    as_inputs,
    flat,
    settings_from,
    settings_given,
)
from miniml.settings.field_types import field_types
from miniml.settings.gate import GateSettings
from miniml.settings.nodes import NodeSettings
from miniml.settings.search import SearchSettings
from miniml.settings.training import TrainingSettings
from miniml.task_registry import task_names
from pipelines.form import stages_of
from pipelines.hyperparameter_search import hyperparameter_search
from pipelines.text_classification import text_classification
from tests.command import ROOT, pipeline

KNOWN = arguments_of(SETTINGS)
TEXTS, SEARCH = (CompiledPipeline.named(name) for name in ("text-classification", "hyperparameter-search"))
COMPONENTS = {
    stage.name: stage
    for pipeline in (text_classification, hyperparameter_search)
    for stage in stages_of(pipeline)
}


@pytest.mark.parametrize("stage", COMPONENTS.values(), ids=COMPONENTS.keys())
def test_a_components_inputs_are_settings_with_the_settings_defaults(stage: BaseComponent) -> None:
    """So it can be used in anybody's pipeline with the few arguments that one cares for."""
    inputs = stage.component_spec.inputs
    settings = {
        name: given
        for name, given in inputs.items()
        if name in KNOWN and given.type != "system.Artifact@0.0.1"
    }
    found = {name: given.default for name, given in settings.items() if given.optional}
    # Without a space nothing is searched; and pick has nothing to pick from.
    assert found == {name: KNOWN[name].default for name in found} | (
        {"space": ""} if "space" in found else {}
    )
    assert set(settings) - set(found) <= {"space"}
    assert all(given.description for given in inputs.values())


@pytest.mark.parametrize("stage", TAKEN_BY)
def test_a_component_takes_each_field_among_its_settings(stage: str) -> None:
    taken = arguments_of(TAKEN_BY[stage])
    inputs = COMPONENTS[stage].component_spec.inputs
    assert {name for name in taken if name in FIELDS} <= inputs.keys()
    assert OPTIONS in inputs


@pytest.mark.parametrize("compiled", (TEXTS, SEARCH), ids=lambda each: str(each.name))
def test_a_form_has_some_two_dozen_fields_and_one_struct(compiled: CompiledPipeline) -> None:
    inputs = compiled.inputs
    assert inputs.keys() - {OPTIONS} <= set(FIELDS)
    assert 15 < len(inputs) < 30
    spec = next(yaml.safe_load_all(compiled.text))
    assert spec["root"]["inputDefinitions"]["parameters"][OPTIONS]["parameterType"] == "STRUCT"
    assert inputs == {name: KNOWN[name].default if name in KNOWN else {} for name in inputs}


def test_every_setting_is_an_argument_of_a_pipeline_and_says_what_it_is() -> None:
    searching = defaults(SEARCH)
    assert searching == {name: argument.default for name, argument in KNOWN.items()}
    assert set(searching) - set(defaults(TEXTS)) == {*vars(SearchSettings())} - {"seed"}
    assert [name for name, argument in KNOWN.items() if not argument.description.endswith(".")] == []


def test_a_choice_is_a_dropdown_that_the_server_holds_a_run_to() -> None:
    spec = next(yaml.safe_load_all((ROOT / "pipelines/compiled/text_classification.yaml").read_text()))
    given = spec["root"]["inputDefinitions"]["parameters"]["task"]
    assert given["literals"] == [*KNOWN["task"].choices] == ["auto", *task_names()]
    assert given["defaultValue"] in given["literals"]


def test_a_setting_that_several_stages_take_is_a_field_of_the_form_for_all_or_for_none() -> None:
    for kind in SETTINGS:
        for name, of in field_types(kind).items():
            assert (of.kind, of.in_form) == (KNOWN[name].kind, name in FIELDS), f"{kind.__name__}.{name}"


def test_arguments_travel_as_fields_and_as_options_that_differ_from_their_default() -> None:
    inputs = as_inputs({"batch_size": 2, "dropout": 0.1, "schedule": "linear", "beat_majority": False})
    assert inputs == {"batch_size": 2, "options": {"dropout": 0.1, "beat_majority": False}}


def test_options_come_in_their_own_types_though_kfp_makes_every_number_a_float() -> None:
    given = {
        "batch_size": 4.0,
        "dataset": object(),
        "options": {"lora_rank": 8.0, "dropout": 0, "keep_train_job": True},
    }
    training, nodes = settings_given(given, TrainingSettings, NodeSettings)
    assert training == TrainingSettings(batch_size=4, lora_rank=8, dropout=0.0)
    assert isinstance(training.lora_rank, int)
    assert isinstance(training.dropout, float)
    assert nodes == NodeSettings(keep_train_job=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropuot": 0.1}, r'options names "dropuot" \(0.1\), .*Did you mean \'dropout\'\?'),
        ({"batch_size": 8}, r"options names 'batch_size' \(8\), which has a field of its own. Give it there"),
        ({"lora_rank": 8.5}, "lora_rank is 8.5; it takes a whole number"),
        ({"lora_rank": "8"}, 'lora_rank is "8"; it takes a whole number'),
        ({"lora_rank": True}, "lora_rank is true; it takes a whole number"),
        ({"lora_rank": None}, "lora_rank is null; it takes a whole number"),
        ({"dropout": [0.1]}, r"dropout is \[0.1\]; it takes a number"),
        ({"linear_probe": 1.0}, "linear_probe is 1.0; it takes true or false"),
        ({"schedule": "x" * 3000}, "schedule '?x+"),
        ({"xyz": {"a": "b" * 5000}}, r'options names "xyz" .*There are: '),
        ({"x\nerror: done": 1}, r'options names "x\\x0aerror: done"'),
        ({"min_gain": 0.1}, r'options names "min_gain" \(0.1\), which is none'),
        ({"dropout": 1.5}, "dropout is 1.5; it must be at least 0 and below 1"),
        ({"dropout": 10**400}, "dropout is 1000+…; it takes a number"),
        ({"epoch": 2}, r"Did you mean 'epochs'\? That has a field of its own"),
        ({"namespace": "models"}, r"options names \"namespace\" .*, which is none of them"),
        ({"checkpoints": "{{workflow.name}}"}, r"checkpoints .* holds .*takes for a placeholder"),
        ({"checkpoints": "a\0b"}, "checkpoints .* holds NUL"),
        ({"checkpoints": "\ud800"}, "checkpoints .* holds NUL or half a character"),
        ({"checkpoints": "x" * 5000}, "checkpoints has 5,000 characters; at most 4,000"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        settings_given({"options": options}, TrainingSettings, NodeSettings)
    assert len(str(refused.value)) < 1200
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("options", [[1], "{}", 5, True], ids=str)
def test_options_that_are_no_object_are_refused(options: Any) -> None:
    with pytest.raises(InputError, match=r'options is .*; it takes an object: {"weight_decay": 0.01}'):
        settings_given({"options": options}, TrainingSettings)


def sources(reviews: Path, encoder: Path) -> dict[str, Any]:
    return {"dataset_id": str(reviews), "model_id": str(encoder)}


def test_preflight_hands_each_stage_its_own_options(reviews: Path, encoder: Path, tmp_path: Path) -> None:
    options = {
        "strip_html": True,
        "dropout": 0.1,
        "min_gain": 0.01,
        "max_replicas": 2.0,
        "schedule": "linear",
    }
    plan = plan_run(sources(reviews, encoder) | {"options": options}, tmp_path / "report.md")
    assert {stage: own for stage, own in plan.options.items() if own} == {
        "transform": {"strip_html": True},
        "train": {"dropout": 0.1},
        "gate": {"min_gain": 0.01},
        "deploy": {"min_gain": 0.01, "max_replicas": 2},
    }
    assert plan.trials == []
    report = (tmp_path / "report.md").read_text()
    assert "# Preflight" in report
    assert "# Sources" in report
    assert "# No champion" in report


def test_a_search_is_planned_with_what_its_trials_need(reviews: Path, encoder: Path, tmp_path: Path) -> None:
    given = sources(reviews, encoder) | {
        "space": '{"learning_rate": [1e-4, 1e-3]}',
        "trials": 2,
        "batch_size": 4,
        "options": {"sampling": "grid", "dropout": 0.1},
    }
    plan = plan_run(given, tmp_path / "report.md")
    assert len(plan.trials) == 2
    for trial in plan.trials:
        assert run_arguments_of(trial) == {"model_id": str(encoder), "batch_size": 4, "dropout": 0.1}
        assert pins_of(trial) == plan.pins
    assert plan.options["pick"] == {"sampling": "grid"}
    # A second run is answered by the caches: also one that shares out minutes.
    timed = given | {"time_limit": 5.0}
    assert plan_run(timed, tmp_path / "report.md").trials == plan_run(timed, tmp_path / "report.md").trials


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"options": {"max_replica": 2}}, "Did you mean 'max_replicas'"),
        ({"options": {"sampling": "grid"}}, r'options names "sampling"'),  # which only a search takes
        ({"options": {"cpu": "two"}}, "cpu 'two' is not a Kubernetes quantity"),
        ({"min_accuracy": 85.0}, "min_accuracy is 85.0"),
        ({"space": '{"dropuot": [0.1]}'}, "space names 'dropuot'"),
    ],
)
def test_preflight_refuses_whatever_a_later_stage_would(
    wrong: dict[str, Any], message: str, reviews: Path, encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        plan_run(sources(reviews, encoder) | wrong, tmp_path / "report.md")


def test_the_fields_of_flat_arguments_are_checked_like_options() -> None:
    with pytest.raises(InputError, match='batch_size is "4"; it takes a whole number'):
        flat({"batch_size": "4"}, SETTINGS)
    assert settings_from(GateSettings, {"min_accuracy": 0.9, "dataset_id": "x"}) == GateSettings(0.9)


def test_an_option_is_an_option_of_the_command_line_and_help_says_what_it_is() -> None:
    shown = " ".join(pipeline("run", "--help").out.split())
    assert "--max-replicas 1 The most pods that autoscaling may start." in shown
    assert "--validation-split-ratio" in shown
    assert "--sampling" not in shown
    assert "--options" not in shown


def test_the_readmes_tables_name_arguments_that_there_are_and_choices_that_they_have() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| argument \|.*\n\|[- |]+\n((?:\|.*\n)+)", readme, re.M)
    first_cells = [re.split(r"(?<!\\)\|", row)[1] for table in tables for row in table.splitlines()]
    named = [found for cell in first_cells for found in re.findall(r"--([a-z-]+)(?: (\w+))?", cell)]
    assert len(named) > 20
    for option, value in named:
        argument = KNOWN[option.removeprefix("no-").replace("-", "_")]
        assert not (argument.choices and value) or value in argument.choices, f"--{option} {value}"


def test_no_component_lists_its_arguments_again_in_its_body() -> None:
    for stage in COMPONENTS.values():
        source = inspect.getsource(stage.python_func)
        body = source.partition('"""')[2].rpartition('"""')[2]
        assert not [name for name in FIELDS if f"{name}={name}" in body], stage.name
