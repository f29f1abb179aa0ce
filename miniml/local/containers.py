"""Runs the same compiled pipeline in containers on this machine, and serves its model from the serving image."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import kfp.local
from docker.models.containers import Container
from docker.types import Mount

from miniml.errors import MinimlError
from miniml.files.folders import user_cache
from miniml.images import FOUNDATIONS, MODEL_FOLDER, SERVING, image
from miniml.local.ask import becomes_ready, not_started
from miniml.local.runner import Machine
from miniml.pipeline.arguments import sources_of
from miniml.ports import HTTP_PORT
from miniml.resource_names import MLFLOW_CREDENTIALS
from miniml.settings.log_targets import targets
from miniml.sources import source
from miniml.sources.address import locate

CACHE = "/opt/cache"
"""The path of this machine's cache in a container: the checkpoints of a killed training outlive its container."""
LABEL = "miniml.run"
"""The label with the id of a run, by which its containers are found."""

# The environment variables with the addresses and credentials of the hub, the store and MLflow. They are listed one by
# one, because other variables of HF_ and AWS_ name folders of this machine, which a container does not have.
_FORWARDED_VARIABLES = (
    "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT", "S3_USE_HTTPS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", *MLFLOW_CREDENTIALS,
)  # fmt: skip
# The variables that name files of certificates, which are mounted.
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")

# A container runs as the user who runs the pipeline, so that this user can delete its files. It may write only to its
# mounts and to this folder, whose 16 GiB are a limit and not a reservation.
_CONFINED: dict[str, Any] = {
    "user": f"{os.getuid()}:{os.getgid()}",
    "read_only": True,
    "tmpfs": {"/tmp": "size=16g,mode=1777"},  # noqa: S108  # in the container
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}


class EngineError(MinimlError):
    """No container engine answers, or it lacks an image."""


def machine(arguments: dict[str, Any], environment: dict[str, str], runs: Path) -> Machine:
    """Returns the environment in which kfp.local runs each stage in a container of its image.

    Files of this machine have the same paths in the containers: the sources that the arguments name, and the outputs of
    earlier runs, which the cache refers to.

    Args:
        arguments: The pipeline's arguments by name.
        environment: Environment variables for the stages.
        runs: The folder of runs.

    Raises:
        EngineError: No engine answers, or it lacks an image; the message names the remedy.
        InputError: A source cannot be used.
    """
    images = _require_images()
    sources = _sources(arguments)
    certificates = {name: path for name in _CERTIFICATES if Path(path := os.environ.get(name, "")).is_file()}
    given = {name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ}
    for mount in sources.values():
        given |= mount.environment
    runs.mkdir(parents=True, exist_ok=True)
    mounts = [
        Mount(str(runs.absolute()), str(runs.absolute()), type="bind", read_only=True),
        *(
            Mount(each.target, str(each.path), type="bind", read_only=each.read_only)
            for each in sources.values()
        ),
        Mount(CACHE, str(user_cache().resolve()), type="bind"),
        *_checkpoints(arguments["checkpoints"]),
        *_log_folders(arguments["log_to"]),
        *(Mount(path, path, type="bind", read_only=True) for path in sorted(set(certificates.values()))),
    ]
    run = uuid.uuid4().hex
    runner = kfp.local.DockerRunner(
        mounts=mounts,
        environment={**environment, **given, **certificates, "MINIML_CACHE": CACHE},
        labels={LABEL: run},
        # Containers reach the hub and the store as this machine does, even those that run on this machine.
        network_mode="host",
        **_CONFINED,
    )
    return Machine(runner, images, clean_up=lambda: _end_containers(run))


def _require_images() -> str:
    """Returns the digests of the images.

    Raises:
        EngineError: No engine answers, or it lacks an image.
    """
    with _engine() as engine:
        found = {name: _digest(engine, name) for name in map(image, FOUNDATIONS)}
    missing = [name for name, digest in found.items() if not digest]
    if missing:
        raise EngineError(f"no image {', '.join(missing)} on this machine. Build them: make images.")
    return "\n".join(found.values())


def _end_containers(run: str) -> None:
    """Removes the containers of an interrupted run: on Ctrl-C, kfp leaves them running."""
    with _engine() as engine:
        for container in engine.containers.list(
            all=True, filters={"label": f"{LABEL}={run}"}, ignore_removed=True
        ):
            # A container that has just ended is removed by itself.
            with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):
                container.remove(force=True)


@contextlib.contextmanager
def serving(model_dir: Path, name: str) -> Iterator[str]:
    """Runs the predictor in a container of the serving image, and yields its address once it is ready.

    Raises:
        EngineError: No engine answers.
        ServingError: The predictor did not start.
    """
    with _engine() as engine:
        container = engine.containers.run(
            image(SERVING),
            [f"--model_dir={MODEL_FOLDER}", f"--model_name={name}"],
            name=f"miniml-serving-{uuid.uuid4().hex[:8]}",
            mounts=[Mount(MODEL_FOLDER, str(model_dir.resolve()), type="bind", read_only=True)],
            # The engine chooses a free port, which only this machine reaches.
            ports={f"{HTTP_PORT}/tcp": ("127.0.0.1", 0)},
            detach=True,
            **_CONFINED,
        )
        try:
            url = _address(container)
            if not url or not becomes_ready(url, name, lambda: _runs(container)):
                raise not_started(container.logs().decode(errors="replace"))
            yield url
        finally:
            container.remove(force=True)


@contextlib.contextmanager
def _engine() -> Iterator[docker.DockerClient]:
    try:
        engine = docker.from_env()
        engine.ping()
    except docker.errors.DockerException as error:
        raise EngineError(
            f"no Docker engine answers ({error}). Start one, or run without containers: RUNNER=subprocess."
        ) from error
    try:
        yield engine
    finally:
        engine.close()


def _runs(container: Container) -> bool:
    container.reload()
    return container.status in ("created", "running")


def _address(container: Container) -> str:
    """Returns the address of the container's port on this machine; empty where the container has ended."""
    container.reload()
    published = container.ports.get(f"{HTTP_PORT}/tcp")
    return f"http://127.0.0.1:{published[0]['HostPort']}" if published else ""


def _digest(engine: docker.DockerClient, name: str) -> str:
    """Returns the digest of an image; empty where the engine does not have it."""
    try:
        return str(engine.images.get(name).id)
    except docker.errors.ImageNotFound:
        return ""


def _checkpoints(folder: str) -> list[Mount]:
    """Returns the mount of the checkpoints' folder, at the same path; none where they are elsewhere."""
    if not Path(folder).is_absolute():
        return []
    Path(folder).mkdir(parents=True, exist_ok=True)
    return [Mount(folder, folder, type="bind")]


def _log_folders(log_to: str) -> list[Mount]:
    """Returns the mounts of the folders that a training logs to, which are created here so that they are the user's."""
    folders = {target.folder for target in targets(log_to) if target.folder}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return [Mount(str(folder), str(folder), type="bind") for folder in sorted(folders)]


def _sources(arguments: dict[str, Any]) -> dict[str, source.Mount]:
    """Returns the mounts of the sources on this machine, by their paths in a container."""
    mounts = (locate(argument, named).mount() for argument, named in sources_of(arguments))
    return {mount.target: mount for mount in mounts if mount}
