"""The container images, by name."""

from __future__ import annotations

import os

from miniml import __version__

STAGES = ("transform", "train", "evaluate", "gate", "deploy")
"""Each has an image of its own; preflight and champion run in deploy's, trials in the gate's and pick in evaluate's,
which hold what they need."""
SERVING = "serving"
MODEL_FOLDER = "/mnt/models"
"""Where a container of that image has its model: on a cluster, KServe puts it there."""
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
    registry = os.environ.get("MINIML_REGISTRY") or NO_REGISTRY
    return f"{registry}/miniml-{stage}:{tag()}"


def tag() -> str:
    """The tag of all of them."""
    return os.environ.get(TAG) or __version__
