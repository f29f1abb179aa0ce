"""Names the container images."""

from __future__ import annotations

import os

from miniml import __version__

SERVING = "serving"
MODEL_FOLDER = "/mnt/models"
"""The folder of the model in a container of that image; on a cluster, KServe writes it."""
FOUNDATIONS = {
    "transform": "plain",
    "train": "torch",
    "evaluate": "torch",
    "gate": "plain",
    "deploy": "plain",
    SERVING: "torch",
}
"""Every image, and its base: a target of components/foundation.Dockerfile.

A stage's image holds the packages of the extra of its name in pyproject.toml. Other stages may run in it too: preflight
runs in deploy's image, and pick in evaluate's."""
STAGES = tuple(name for name in FOUNDATIONS if name != SERVING)
"""The names of the images that stages run in."""
REGISTRY = "MINIML_REGISTRY"
"""The environment variable with the registry."""
TAG = "MINIML_IMAGE_TAG"
"""The environment variable with a tag in place of the version."""

NO_REGISTRY = "localhost"
"""The host in the names of images that were built or loaded, and are not pulled. A name without a host would be pulled
from a public registry, where anybody may own it."""


def image(stage: str) -> str:
    """Returns the name of a stage's image, `<registry>/miniml-<stage>:<tag>`.

    The environment variables MINIML_REGISTRY (default "localhost", which is no registry) and MINIML_IMAGE_TAG (default
    the version) are read when a stage is compiled.
    """
    return image_name(stage, registry(), tag())


def image_name(stage: str, registry: str, tag: str) -> str:
    """Returns the name of a stage's image.

    Args:
        stage: The name of the stage, or "serving".
        registry: The host of the registry, and a path if it has one.
        tag: The tag.
    """
    return f"{registry}/miniml-{stage}:{tag}"


def registry() -> str:
    """Returns the registry of all images."""
    return os.environ.get(REGISTRY) or NO_REGISTRY


def tag() -> str:
    """Returns the tag of all images."""
    return os.environ.get(TAG) or __version__
