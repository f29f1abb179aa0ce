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
from miniml.images import SERVING, STAGES, image
from miniml.sources import PACKAGE_SCHEME, locate, package_folder
from pipelines.ask import becomes_ready, free_port, not_started

PACKAGES = "/opt/packages"
"""Where, in a container, the packages stand that a source is taken from: they are this machine's, not the image's."""

# A stage runs as whoever runs the pipeline, who can then remove what it wrote, and may write nowhere but to the
# pipeline's root and to this folder. Sixteen gibibytes are a limit, not a reservation.
_CONFINED: dict[str, Any] = {
    "user": f"{os.getuid()}:{os.getgid()}",
    "read_only": True,
    "tmpfs": {"/tmp": "size=16g,mode=1777"},  # noqa: S108  # in the container
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    # The hub is reached as from this machine, a hub on this very machine too.
    "network_mode": "host",
}


class EngineError(MinimlError):
    """No container engine answers, or it lacks an image."""


def require_images() -> str:
    """Looks for the engine and every image before anything runs, and gives the images' digests.

    Raises:
        EngineError: it names what is missing and the remedy.
    """
    with _engine() as engine:
        found = {name: _digest(engine, name) for name in map(image, (*STAGES, SERVING))}
    missing = [name for name, digest in found.items() if not digest]
    if missing:
        raise EngineError(f"no image {', '.join(missing)} on this machine. Build them: make images.")
    return "\n".join(found.values())


def runner(arguments: dict[str, Any], environment: dict[str, str]) -> kfp.local.DockerRunner:
    """Runs each stage in its image; what the arguments name on this machine is there too, at the same path."""
    mounts, packages = _sources(arguments)
    # Where hub and store are, and what one may read there: the environment's to say, here as there.
    outside = {name: value for name, value in os.environ.items() if name.startswith(("HF_", "AWS_", "S3_"))}
    path = {"PYTHONPATH": f"/opt/miniml:{PACKAGES}"} if packages else {}
    return kfp.local.DockerRunner(mounts=mounts, environment={**environment, **outside, **path}, **_CONFINED)


@contextlib.contextmanager
def serving(model_dir: Path, name: str) -> Iterator[str]:
    """Runs the predictor in a container of the serving image, and gives its address once it is ready."""
    port = free_port()
    with _engine() as engine:
        container = engine.containers.run(
            image(SERVING),
            ["--model_dir=/mnt/models", f"--model_name={name}", f"--http_port={port}"],
            name=f"miniml-serving-{uuid.uuid4().hex[:8]}",
            mounts=[Mount("/mnt/models", str(model_dir.resolve()), type="bind", read_only=True)],
            detach=True,
            **_CONFINED,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            if not becomes_ready(url, name, lambda: _runs(container)):
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


def _digest(engine: docker.DockerClient, name: str) -> str:
    """The digest of what an image holds; empty where there is none of that name."""
    try:
        return str(engine.images.get(name).id)
    except docker.errors.ImageNotFound:
        return ""


def _sources(arguments: dict[str, Any]) -> tuple[list[Mount], bool]:
    """The mounts for what dataset_id and model_id name on this machine, and whether a package is among them."""
    mounts: dict[str, Mount] = {}
    for argument in ("dataset_id", "model_id"):
        source = arguments[argument]
        where = locate(argument, source)
        if not isinstance(where, Path):
            continue
        target = str(where)
        if source.startswith(PACKAGE_SCHEME):
            # The whole package, for it is looked up by being found among the packages.
            package = source.removeprefix(PACKAGE_SCHEME).partition("/")[0]
            where = package_folder(package) or where
            target = f"{PACKAGES}/{package}"
        mounts[target] = Mount(target, str(where), type="bind", read_only=True)
    return list(mounts.values()), any(target.startswith(PACKAGES) for target in mounts)
