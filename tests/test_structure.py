"""What the repository promises of itself: fresh compiled YAML, import rules, light compiling."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from miniml import __version__
from miniml.images import STAGES
from miniml.pipeline.compiled import as_run_here, stages_in_order
from tests.command import ROOT, pipeline

PIPELINES = ("text_classification", "hyperparameter_search")


def test_the_committed_yaml_is_what_the_code_compiles_to(tmp_path: Path) -> None:
    for module in PIPELINES:
        assert pipeline("compile", "--folder", tmp_path, module=module).status == 0
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    committed = ROOT / "pipelines" / "compiled"
    assert fresh == {path.relative_to(committed): path.read_text() for path in committed.rglob("*.yaml")}
    assert len(fresh) == 9


@pytest.mark.parametrize("module", PIPELINES)
def test_every_image_carries_the_version(module: str) -> None:
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text()))
    executors = spec["deploymentSpec"]["executors"]
    images = {executor["container"]["image"] for executor in executors.values()}
    assert images == {f"localhost/miniml-{stage}:{__version__}" for stage in STAGES}


def test_a_person_writes_the_version_in_one_place() -> None:
    """`make compile` writes the others, which the tests above and those of the manifests hold fresh."""
    folders = ("miniml", "components", "pipelines", "serving", "manifests", "benchmarks", "docs", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix != ".pyc"]
    files += [ROOT / name for name in ("Makefile", "README.md", "CONTRIBUTING.md", "pyproject.toml")]
    version = re.compile(rf"(?<![\d.]){re.escape(__version__)}\b")
    said = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.is_file() and version.search(path.read_text(errors="replace"))
    }
    compiled = {path for path in said if path.startswith("pipelines/compiled/")}
    assert said - compiled == {"miniml/__init__.py", "manifests/base/runtime.yaml"}


@pytest.mark.parametrize("module", PIPELINES)
def test_compiling_needs_no_heavy_library(module: str) -> None:
    script = (
        f"import sys; from pipelines.{module} import {module}; "
        "print(sorted({'torch', 'transformers', 'datasets', 'kserve'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("folder", "statement"),
    [
        ("miniml", "import kfp"),
        ("miniml", "from pipelines import cli"),
        ("miniml", "import serving"),
        ("miniml", "from miniml.store import repository"),
        ("miniml", "import minio"),
        ("components", "import pipelines"),
        ("components", "import torch"),
        ("pipelines", "import serving"),
        ("serving", "import components"),
    ],
)
def test_an_import_against_the_rules_is_refused_with_a_reason(folder: str, statement: str) -> None:
    # Given on standard input under a name in the folder, so that nothing is written there.
    words = [sys.executable, "-m", "ruff", "check", "--select=TID", "--no-cache"]
    name = f"--stdin-filename={ROOT / folder / 'planted.py'}"
    done = subprocess.run(
        [*words, name, "-"], input=statement + "\n", cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "TID25" in done.stdout


def test_no_public_function_goes_without_a_docstring() -> None:
    from miniml.data import preparation, prepared
    from miniml.deployment import deploy
    from miniml.evaluation import evaluate
    from miniml.gate import rules
    from miniml.training import fine_tune

    for module in (preparation, prepared, deploy, evaluate, rules, fine_tune):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("_") and function.__module__ == module.__name__:
                assert inspect.getdoc(function), f"{module.__name__}.{name}"


@pytest.mark.parametrize("module", PIPELINES)
def test_a_pod_that_trains_is_retried_for_as_long_as_a_training_lasts(module: str) -> None:
    spec = next(yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text()))
    dags = [spec["root"]["dag"], *(each["dag"] for each in spec["components"].values() if "dag" in each)]
    tasks = {name: task for dag in dags for name, task in dag["tasks"].items()}
    assert [name for name, task in tasks.items() if "retryPolicy" in task] == ["train"]
    policy = tasks["train"]["retryPolicy"]
    # Argo counts it from the start of the first pod.
    assert (policy["maxRetryCount"], policy["backoffMaxDuration"]) == (2, f"{30 * 24 * 3600}s")


@pytest.mark.parametrize("module", PIPELINES)
def test_on_a_laptop_nothing_is_retried(module: str) -> None:
    compiled = (ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text()
    assert "retryPolicy" not in as_run_here(compiled)
    assert stages_in_order(as_run_here(compiled)) == stages_in_order(compiled)


@pytest.mark.parametrize("module", PIPELINES)
def test_every_step_asks_to_run_as_somebody_who_is_not_root(module: str) -> None:
    """Pod Security `restricted` refuses a step of KFP 2.17 only for want of runAsNonRoot (issue 18, section 4)."""
    [spec, platform] = yaml.safe_load_all((ROOT / "pipelines" / "compiled" / f"{module}.yaml").read_text())
    asked = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert asked.keys() == spec["deploymentSpec"]["executors"].keys()
    assert all(executor["securityContext"] == {"runAsNonRoot": True} for executor in asked.values())


def test_no_test_bounds_the_clock_by_itself() -> None:
    """How long anything may take is for tests/patience.py to say: not less than ten times what the slowest needs."""
    clocks = ("time.monotonic", "time.perf_counter", "time.time")
    # tests/e2e/cluster.py has a patience of its own, which the environment sets.
    for path in set((ROOT / "tests").rglob("*.py")) - {
        ROOT / "tests/patience.py",
        ROOT / "tests/e2e/cluster.py",
    }:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                limits = [word.value for word in node.keywords if word.arg == "timeout"]
                bounds = called in clocks or any(isinstance(limit, ast.Constant) for limit in limits)
                # A Patience of ours is an argument of what is tried, not a limit of the test.
                assert not bounds or called == "replace", f"{path.name}:{node.lineno} bounds the clock"
