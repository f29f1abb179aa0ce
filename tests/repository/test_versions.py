"""A version that texts and tools have to repeat is the same wherever it stands."""

from __future__ import annotations

import re

import pytest

from tests.command import ROOT
from tests.versions import KIND, KSERVE, KUBEFLOW_PIPELINES, KUBERNETES, PYTHON, said

# What tells a person what to install. Other texts tell what was run once, or which source was read.
REMEDIES = [
    ROOT / "kind-config.yaml",
    ROOT / "miniml" / "preflight" / "cluster_checks.py",
    *(path for path in (ROOT / "manifests").rglob("*") if path.is_file()),
]


@pytest.mark.parametrize(
    ("name", "version"),
    [("(?:Kubeflow Pipelines|KFP)", KUBEFLOW_PIPELINES), ("KServe", KSERVE), ("kind", KIND)],
)
def test_a_person_is_told_the_versions_that_make_cluster_installs(name: str, version: str) -> None:
    readme = said(r"^`make cluster` installs (.*)$", "README.md")
    texts = [readme, *(path.read_text(encoding="utf-8") for path in REMEDIES)]
    versions = [number for text in texts for number in re.findall(rf"\b{name} (\d+(?:\.\d+)+)", text)]
    assert versions
    assert all(f"{version}.".startswith(f"{number}.") for number in versions), versions


@pytest.mark.parametrize(("package", "version"), [("kfp", KUBEFLOW_PIPELINES), ("kserve", KSERVE)])
def test_the_packages_are_of_the_version_that_the_cluster_runs(package: str, version: str) -> None:
    minor = version.rpartition(".")[0]
    assert said(rf"^{package}==(\d+\.\d+)\.", "requirements.lock") == minor
    assert said(rf'"{package}>=([\d.]+),', "pyproject.toml") == minor


def test_ci_makes_its_cluster_with_the_tools_that_are_asked_for() -> None:
    workflow = ".github/workflows/cluster.yaml"
    assert said(r" version: v(\d+\.\d+)\.", workflow) == KIND
    assert said(r"kubectl_version: v(\d+\.\d+)\.", workflow) == KUBERNETES


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("pyproject.toml", r'^python_version = "(.+)"$'),
        ("components/foundation.Dockerfile", r"^ARG BASE_IMAGE=python:(.+)-slim$"),
        ("Makefile", r"command -v python(3\.\d+)"),
        (".ci/run", r"command -v python(3\.\d+)"),
        (".github/workflows/test.yaml", r'python-version: "(.+)"'),
        (".github/workflows/cluster.yaml", r'python-version: "(.+)"'),
    ],
)
def test_everything_runs_on_the_python_that_the_lock_file_is_for(path: str, pattern: str) -> None:
    assert said(pattern, path) == PYTHON
