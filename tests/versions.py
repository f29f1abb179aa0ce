"""The versions of what a cluster runs, each read where it is said for `make cluster`."""

from __future__ import annotations

import re

from tests.command import ROOT


def said(pattern: str, path: str) -> str:
    """What the group of `pattern` is in a file of the repository, in which it is found once."""
    [found] = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return str(found)


KUBERNETES = said(r"image: kindest/node:v(\d+\.\d+)\.", "kind-config.yaml")
"""The oldest that we install on, without its patch version, as Kubernetes' schemas are named."""
KUBEFLOW_PIPELINES = said(r"^KFP_VERSION=(.+)$", "manifests/install.sh")
KIND = said(r"^OLDEST_KIND=(.+)$", "manifests/install.sh")
KSERVE = said(r"/kserve/releases/download/v(.+)/", "manifests/kserve/kustomization.yaml")
PYTHON = said(r'^requires-python = ">=(.+)"$', "pyproject.toml")
"""The oldest that miniml runs on, and the one that its lock file is resolved for."""
