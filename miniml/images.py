"""The container images, by name."""

from __future__ import annotations

import os

from miniml import __version__

SERVING = "serving"
MODEL_FOLDER = "/mnt/models"
"""Where a container of that image has its model: on a cluster, KServe puts it there."""
FOUNDATIONS = {
    "transform": "plain",
    "train": "torch",
    "evaluate": "torch",
    "gate": "plain",
    "deploy": "plain",
    SERVING: "torch",
}
"""Every image, and what it stands on: a target of components/foundation.Dockerfile.

A stage's image holds what the extra of its name in pyproject.toml asks for. Another stage may run in it too: preflight
runs in deploy's, and pick in evaluate's."""
STAGES = tuple(name for name in FOUNDATIONS if name != SERVING)
"""The images of stages."""
REGISTRY = "MINIML_REGISTRY"
"""The variable that says where images come from."""
TAG = "MINIML_IMAGE_TAG"
"""The variable that names another tag than the version."""

NO_REGISTRY = "localhost"
"""Where images come from that were built or loaded and are pulled from nowhere: a name without a host in front would
be looked for in a public registry, and whoever has that name there would be trusted."""


def image(stage: str) -> str:
    """`registry/miniml-<stage>:<version>`.

    The environment says otherwise, for a stage when it is compiled: MINIML_REGISTRY (default "localhost", which is no
    registry) and MINIML_IMAGE_TAG (default the version).
    """
    return image_name(stage, registry(), tag())


def image_name(stage: str, registry: str, tag: str) -> str:
    """The name of a stage's image in a registry, with a tag."""
    return f"{registry}/miniml-{stage}:{tag}"


def registry() -> str:
    """Where all of them come from."""
    return os.environ.get(REGISTRY) or NO_REGISTRY


def tag() -> str:
    """The tag of all of them."""
    return os.environ.get(TAG) or __version__
