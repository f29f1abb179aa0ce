"""The images hold what their stage needs, no more, run confined, and run the pipeline."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from components.build import builds
from miniml import __version__
from miniml.images import FOUNDATIONS, MODEL_FOLDER, SERVING, STAGES, image
from miniml.local.containers import LABEL
from miniml.model.classifier import Classifier
from miniml.ports import GRPC_PORT, HTTP_PORT
from miniml.tasks import SingleLabelPrediction
from tests import patience, tiny
from tests.command import ROOT, pipeline, tool
from tests.hub_server import HubServer, write_bert, write_yelp
from tests.repository.test_extras import MODULES

# What would be another stage's business, each hundreds of megabytes or a server.
FOREIGN = {
    "transform": ["torch", "transformers", "kserve"],
    "train": ["kserve", "sklearn"],
    "evaluate": ["kserve", "accelerate"],
    "gate": ["torch", "datasets", "kserve"],
    "deploy": ["torch", "datasets", "kserve"],
    SERVING: ["datasets", "accelerate", "matplotlib"],
}
IMAGES = tuple(FOUNDATIONS)


DOCKERFILES = ("components/foundation.Dockerfile", "components/Dockerfile", "serving/Dockerfile")


def steps(command: list[str]) -> str:
    """What a `docker build` without BuildKit does: all of the file, down to the end of its target."""
    words = dict(word.split("=", 1) for word in command if word.startswith(("--file=", "--target=")))
    stages = re.split(r"^(?=FROM )", (ROOT / words["--file"]).read_text(), flags=re.MULTILINE)
    if target := words.get("--target"):
        [last] = [
            number for number, stage in enumerate(stages) if stage.splitlines()[0].endswith(f" AS {target}")
        ]
        stages = stages[: last + 1]
    return "".join(stages)


@pytest.fixture(scope="module")
def engine() -> Any:
    """The engine with all images built; .ci/run builds them, and forbids that these tests are skipped."""
    # Asked in a process of its own: where no engine answers, docker's client leaves a socket open, and whatever test
    # runs when Python finds that would fail.
    ask = [sys.executable, "-c", "import docker; docker.from_env().ping()"]
    asked = subprocess.run(ask, capture_output=True, text=True)
    if asked.returncode:
        reason = asked.stderr.splitlines()[-1]
        if os.environ.get("MINIML_EXPECT_DOCKER"):
            pytest.fail(f"no Docker engine answers, and MINIML_EXPECT_DOCKER says that one does ({reason})")
        pytest.skip(f"no Docker engine answers ({reason})")
    found = docker.from_env()
    built = {tag for each in found.images.list() for tag in each.tags}
    missing = {image(name) for name in IMAGES} - built
    if missing:
        pytest.fail(f"an engine answers, but has no {', '.join(sorted(missing))}. Build them: make images.")
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
    words = [str(tool("hadolint")), *DOCKERFILES]
    linted = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_an_image_that_was_not_built_here_is_looked_for_in_no_public_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MINIML_REGISTRY", raising=False)
    for name in IMAGES:
        # As Docker reads it: what has neither dot nor colon before the first slash, and is not localhost, is a user's
        # name on its own registry.
        assert image(name).startswith("localhost/")
    monkeypatch.setenv("MINIML_REGISTRY", "registry.example.com/ml")
    assert image("train").startswith("registry.example.com/ml/miniml-train:")


@pytest.mark.parametrize("name", IMAGES)
def test_torch_is_built_for_those_alone_that_need_it_by_any_builder(name: str) -> None:
    built = "".join(steps(command) for command in builds(name))
    assert ("--constraint requirements.lock torch" in built) is ("torch" not in FOREIGN[name])
    assert ("torch" in FOREIGN[name]) is (name not in ("train", "evaluate", SERVING))


def test_every_stage_of_the_pipeline_has_an_image_that_is_built() -> None:
    named = [path.read_text() for path in (ROOT / "pipelines" / "compiled" / "components").glob("*.yaml")]
    images = {name for text in named for name in re.findall(r"image: \S+/miniml-(\w+):", text)}
    assert images == set(STAGES)


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


def test_the_predictors_image_says_at_which_ports_it_listens_and_where_its_model_is() -> None:
    dockerfile = (ROOT / "serving" / "Dockerfile").read_text()
    assert f"\nEXPOSE {HTTP_PORT} {GRPC_PORT}\n" in dockerfile
    assert f'\nCMD ["--model_dir={MODEL_FOLDER}"]\n' in dockerfile


@pytest.fixture
def job(encoder: Path, tmp_path: Path) -> list[str]:
    """The words of a small job in containers, whose outputs lie in tmp_path/outputs."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", rows=300)
    return [
        "run", "--runner=docker", f"--outputs={tmp_path / 'outputs'}", f"--dataset-id={reviews}",
        f"--model-id={encoder}", "--label-names=bad,good", "--batch-size=16", "--iterations=60",
        "--learning-rate=1e-2", "--max-length=32", "--min-accuracy=0.9",
    ]  # fmt: skip


@pytest.mark.docker
def test_the_pipeline_runs_in_containers_to_a_served_answer(
    engine: Any, job: list[str], tmp_path: Path
) -> None:
    ended = pipeline(*job, "--ask", "great food")
    assert ended.status == 0, ended.out + ended.err
    summary = json.loads((tmp_path / "outputs" / "latest" / "summary.json").read_text())
    assert summary["verdict"] == "approved"
    [answer] = summary["predictions"]
    assert answer["label"] == "good"
    expected = Classifier.load(summary["model_dir"], SingleLabelPrediction).predict(["great food"])[0]
    assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    # Progress comes out of a container as it does of a process.
    assert "trained: validation accuracy" in ended.out
    for path in (tmp_path / "outputs").rglob("*"):
        assert path.lstat().st_uid == os.getuid(), f"{path} is not its owner's who ran the pipeline"
    assert stages(engine, tmp_path) == []


@pytest.mark.docker
def test_what_is_wrong_in_a_container_is_told_as_it_is_anywhere(engine: Any, job: list[str]) -> None:
    # More than once: now and then such a container is gone before kfp asks, which then takes it for a success.
    for _ in range(3):
        ended = pipeline(*job, "--text-column=review")
        assert ended.status == 1
        assert "transform: column 'review' is not in" in ended.err
        assert "Traceback" not in ended.err


@pytest.mark.docker
def test_a_stage_whose_container_vanishes_has_failed(engine: Any, job: list[str], tmp_path: Path) -> None:
    with started(*job, "--iterations=100000") as process:
        training(engine, process, tmp_path).remove(force=True)
        _, output = process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 1
    assert "error: train: ended without a message" in output
    assert not (tmp_path / "outputs" / "latest").exists()


@pytest.mark.docker
def test_a_training_whose_container_was_killed_goes_on_in_another(
    engine: Any, job: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path / "cache"))
    words = [*job, "--iterations=40", "--checkpoint-interval=0"]
    with started(*words) as process:
        container = training(engine, process, tmp_path)
        while not list((tmp_path / "cache").glob("checkpoints/*/step-*")):
            assert process.poll() is None
            time.sleep(0.05)
        container.remove(force=True)
        process.communicate(timeout=patience.SECONDS)
    ended = pipeline(*words)
    assert ended.status == 0, ended.out + ended.err
    assert "transform · unchanged, taken from the cache" in ended.out
    assert "continuing from step " in ended.out
    # For whoever asks for the same training again; of the checkpoints nothing is left.
    assert [path.name for path in (tmp_path / "cache" / "checkpoints").glob("*/*")] == ["finished"]


@pytest.mark.docker
def test_an_interrupted_run_leaves_no_container_at_work(engine: Any, job: list[str], tmp_path: Path) -> None:
    with started(*job, "--iterations=100000") as process:
        training(engine, process, tmp_path)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=patience.SECONDS)
    assert process.returncode == 1
    assert output.strip() == "stopped"
    assert stages(engine, tmp_path) == []


@pytest.mark.docker
def test_a_container_reaches_the_hub_that_this_machine_reaches(
    engine: Any, job: list[str], tmp_path: Path
) -> None:
    write_yelp(tmp_path)
    write_bert(tmp_path)
    cache = tmp_path / "cache"
    words = [*job, "--dataset-id=Yelp/yelp_review_full", "--model-id=google-bert/bert-base-cased"]
    with HubServer(tmp_path) as hub:
        ended = pipeline(
            *words, "--label-names=", "--iterations=1", "--min-accuracy=1", HF_ENDPOINT=hub.url, HF_HOME=str(cache),
            HF_TOKEN="hub-secret",
        )  # fmt: skip
    assert ended.status == 0, ended.out + ended.err
    assert list(cache.rglob("*.safetensors")), "the model is not kept for the next run"
    # The token is the hub's to see and nobody else's.
    for log in (tmp_path / "outputs").rglob("*.log"):
        assert "hub-secret" not in log.read_text()


def stages(engine: Any, outputs: Path) -> list[Container]:
    """The containers of stages that write below `outputs`."""
    found = engine.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
    return [one for one in found if any(m["Source"].startswith(str(outputs)) for m in one.attrs["Mounts"])]


def training(engine: Any, process: subprocess.Popen[str], outputs: Path) -> Container:
    """The train stage's container, once it has said that it trains."""
    assert process.stdout
    for line in process.stdout:
        if "steps of 16" in line:
            [container] = stages(engine, outputs)
            assert container.attrs["Config"]["Image"] == image("train")
            return container
    pytest.fail("the train stage did not start")


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The pipeline's command line at work, ended at the latest when the test is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "miniml", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_without_an_engine_the_remedy_is_named(reviews: Path, encoder: Path, tmp_path: Path) -> None:
    ended = pipeline(
        "run", "--runner=docker", "--outputs", tmp_path, "--dataset-id", reviews, "--model-id", encoder,
        DOCKER_HOST="unix:///nowhere/docker.sock",
    )  # fmt: skip
    assert ended.status == 1
    assert "no Docker engine answers" in ended.err
    assert "RUNNER=subprocess" in ended.err
