"""A stage in an environment that does not hold what it needs says so, and what to do, in one line."""

import ast
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from kfp import components, dsl
from kfp.local.subprocess_task_handler import replace_python_executable

from tests.command import ROOT

COMPONENTS = sorted((ROOT / "pipelines" / "compiled" / "components").glob("*.yaml"))


def started(component: Path, python: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a component's command by `python`, as kfp's SubprocessRunner does, with an input that no stage can use."""
    [executor] = next(yaml.safe_load_all(component.read_text()))["deploymentSpec"]["executors"].values()
    words = [*executor["container"]["command"], "--executor_input", "{}", "--function_to_execute", "none"]
    return subprocess.run(
        replace_python_executable(words, str(python)),
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment, such as SubprocessRunner() makes for each task."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder)
    return folder / "bin" / "python"


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.stem)
def test_an_empty_environment_is_told_in_one_line_with_the_remedy(component: Path, empty: Path) -> None:
    ended = started(component, empty)
    assert ended.returncode == 1
    [line] = (ended.stdout + ended.stderr).splitlines()
    assert line.startswith("error: this Python has no kfp or no miniml.")
    assert "SubprocessRunner(use_venv=False)" in line


def test_where_all_is_there_the_stage_begins() -> None:
    ended = started(COMPONENTS[0], Path(sys.executable), PYTHONPATH=str(ROOT))
    assert "this Python has no" not in ended.stderr
    assert "executor_main" in ended.stderr


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.stem)
def test_every_input_and_output_of_a_component_says_what_it_is(component: Path) -> None:
    [definition] = next(yaml.safe_load_all(component.read_text()))["components"].values()
    for side in ("inputDefinitions", "outputDefinitions"):
        for kind in definition.get(side, {}).values():
            assert [name for name, one in kind.items() if not one.get("description")] == []


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.stem)
def test_a_component_by_its_file_needs_what_other_steps_make_and_no_setting(component: Path) -> None:
    loaded = components.load_component_from_file(str(component))
    artifacts = {name for name, of in loaded.component_spec.inputs.items() if of.type.startswith("system.")}
    wiring = {"deploy": {"approved"}, "pick": {"space"}}
    # Where nobody has made a smaller model, the full one is evaluated and deployed.
    artifacts -= {"compressed"}
    assert set(loaded.required_inputs) == artifacts | wiring.get(component.stem, set())


def test_a_component_by_its_file_is_used_with_three_arguments_in_a_pipeline_of_anybodys() -> None:
    folder = ROOT / "pipelines" / "compiled" / "components"
    transform, train = (
        components.load_component_from_file(str(folder / f"{name}.yaml")) for name in ("transform", "train")
    )

    @dsl.pipeline
    def theirs() -> None:
        data = transform(dataset_id="owner/reviews")
        train(dataset=data.outputs["dataset"], model_id="owner/name", epochs=2)

    assert theirs.pipeline_spec.root.dag.tasks["train"].inputs.parameters.keys() == {"model_id", "epochs"}


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.stem)
def test_a_components_source_takes_by_name_what_the_component_takes(component: Path) -> None:
    """kfp's executor passes no more than the source's own signature names."""
    spec = next(yaml.safe_load_all(component.read_text()))
    [executor], [definition] = spec["deploymentSpec"]["executors"].values(), spec["components"].values()
    [function] = [
        each
        for each in ast.parse(executor["container"]["command"][3]).body
        if isinstance(each, ast.FunctionDef)
    ]
    sides = (definition["inputDefinitions"], definition["outputDefinitions"])
    named = {name for side in sides for name in side.get("artifacts", {})} | sides[0].get(
        "parameters", {}
    ).keys()
    assert {each.arg for each in function.args.args} == named
    assert function.args.kwarg is None
