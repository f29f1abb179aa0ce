"""The container image of each stage."""

from __future__ import annotations

import os

from miniml import __version__


def image(stage: str) -> str:
    """`registry/miniml-<stage>:<version>`.

    The environment says otherwise at compile time: MINIML_REGISTRY (default "miniml") and
    MINIML_IMAGE_TAG (default the version).
    """
    registry = os.environ.get("MINIML_REGISTRY", "miniml")
    tag = os.environ.get("MINIML_IMAGE_TAG", __version__)
    return f"{registry}/miniml-{stage}:{tag}"
