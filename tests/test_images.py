"""The images hold what their stage needs, no more, run confined, and run the pipeline."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from miniml import __version__
from miniml.images import SERVING, STAGES, image
from tests import tiny
from tests.command import ROOT, pipeline, tool

MODULES = {
    "transform": ["miniml.data", "miniml.tables", "kfp"],
    "train": ["miniml.training", "kfp"],
    "evaluate": ["miniml.evaluation", "miniml.report", "kfp"],
    "gate": ["miniml.gate", "kfp"],
    "deploy": ["miniml.deployment", "miniml.preflight", "kfp"],
    SERVING: ["serving.startup", "miniml.classifier"],
}
# What would be another stage's business, each hundreds of megabytes or a server.
FOREIGN = {
    "transform": ["torch", "transformers", "kserve"],
    "train": ["kserve", "matplotlib"],
    "evaluate": ["kserve", "accelerate"],
    "gate": ["torch", "datasets", "kserve"],
    "deploy": ["torch", "datasets", "kserve"],
    SERVING: ["datasets", "accelerate", "matplotlib"],
}
IMAGES = (*STAGES, SERVING)


@pytest.fixture(scope="module")
def engine() -> Any:
    """The engine with all images built; .ci/run builds them, and forbids that these tests are skipped."""
    try:
        found = docker.from_env()
        for name in IMAGES:
            found.images.get(image(name))
    except docker.errors.DockerException as error:
        if os.environ.get("MINIML_EXPECT_DOCKER"):
            raise
        pytest.skip(f"no Docker engine with our images answers ({error}): make images builds them")
    yield found
    found.close()


def python(engine: Any, name: str, script: str) -> str:
    """What a script prints in a stage's image, confined as a cluster confines it."""
    printed: bytes = engine.containers.run(
        image(name),
        ["python3", "-c", script] if name != SERVING else ["-c", script],
        entrypoint=None if name != SERVING else ["python3"],
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="none",
        remove=True,
        stderr=False,
    )
    return printed.decode().strip()


def test_the_dockerfiles_are_lint_clean() -> None:
    words = [str(tool("hadolint")), "components/Dockerfile", "serving/Dockerfile"]
    linted = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_every_stage_of_the_pipeline_has_an_image_that_is_built() -> None:
    modules = {path.stem for path in (ROOT / "components").glob("*.py")} - {"__init__", "build", "preflight"}
    assert modules == set(STAGES)


@pytest.mark.docker
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_imports_its_modules_as_nobody_in_particular_on_a_read_only_root(
    engine: Any, name: str
) -> None:
    script = f"import os, {', '.join(MODULES[name])}; print(os.getuid(), miniml.__version__)"
    assert python(engine, name, script) == f"1000 {__version__}"


@pytest.mark.docker
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_nothing_of_another_stages(engine: Any, name: str) -> None:
    script = f"import importlib.util as u; print([m for m in {FOREIGN[name]} if u.find_spec(m)])"
    assert python(engine, name, script) == "[]"


@pytest.mark.docker
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_keeps_to_the_lock_file(engine: Any, name: str) -> None:
    script = "from importlib.metadata import distributions as d; print([(x.name, x.version) for x in d()])"
    installed = python(engine, name, script)
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    for package in ("kfp", "torch", "datasets", "kserve", "kubernetes", "numpy"):
        [version] = [line.split("==")[1] for line in lock if line.startswith(f"{package}==")]
        if f"('{package}', " in installed:
            assert f"('{package}', '{version}" in installed


@pytest.mark.docker
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_which_version_and_revision_it_is_of(engine: Any, name: str) -> None:
    configuration = engine.images.get(image(name)).attrs["Config"]
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert len(labels["org.opencontainers.image.revision"].rstrip("+")) == 40
    assert configuration["User"] == "1000:1000"


@pytest.mark.docker
def test_the_predictors_image_tells_its_health(engine: Any) -> None:
    assert engine.images.get(image(SERVING)).attrs["Config"]["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.docker
def test_the_pipeline_runs_in_containers_to_a_served_answer(
    engine: Any, encoder: Path, tmp_path: Path
) -> None:
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", rows=300)
    outputs = tmp_path / "outputs"
    ended = pipeline(
        "run", "--runner=docker", "--outputs", outputs, "--dataset-id", reviews, "--model-id", encoder,
        "--label-names=bad,good", "--batch-size=16", "--iterations=60", "--learning-rate=1e-2", "--max-length=32",
        "--ask", "great food", "--min-accuracy=0.9",
    )  # fmt: skip
    assert ended.status == 0, ended.out + ended.err
    summary = json.loads((outputs / "latest" / "summary.json").read_text())
    assert summary["verdict"] == "approved"
    [answer] = summary["predictions"]
    assert answer["label"] == "good"
    assert (
        "trained: validation accuracy" in ended.out
    )  # Progress comes out of a container as it does of a process.


@pytest.mark.docker
def test_what_is_wrong_in_a_container_is_told_as_it_is_anywhere(
    engine: Any, encoder: Path, tmp_path: Path
) -> None:
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", rows=100)
    ended = pipeline(
        "run", "--runner=docker", "--outputs", tmp_path / "outputs", "--dataset-id", reviews, "--model-id", encoder,
        "--text-column=review",
    )  # fmt: skip
    assert ended.status == 1
    assert "transform: column 'review' is not in" in ended.err


def test_without_an_engine_the_remedy_is_named(reviews: Path, encoder: Path, tmp_path: Path) -> None:
    ended = pipeline(
        "run", "--runner=docker", "--outputs", tmp_path, "--dataset-id", reviews, "--model-id", encoder,
        DOCKER_HOST="unix:///nowhere/docker.sock",
    )  # fmt: skip
    assert ended.status == 1
    assert "no Docker engine answers" in ended.err
    assert "RUNNER=subprocess" in ended.err
