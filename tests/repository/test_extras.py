"""Each stage gets along with what its own extra installs: an import of another stage's library fails in its image."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from miniml.images import SERVING, STAGES
from tests.command import ROOT

MODULES = {
    "transform": ["miniml.data.preparation", "miniml.data.report", "miniml.data.tables", "minio", "kfp"],
    "train": [
        *(
            "miniml.training.fine_tune",
            "miniml.training.report",
            "miniml.search.trial",
            "miniml.train_step.step",
        ),
        *("miniml.compression.__main__", "miniml.compression.candidates", "miniml.compression.selection"),
        *("miniml.train_job.train_on_nodes", "miniml.train_job.node", "kubeflow.trainer", "minio", "kfp"),
    ],
    "evaluate": [
        "miniml.evaluation.evaluate",
        "miniml.evaluation.report",
        "miniml.evaluation.champion_comparison",
        "miniml.search.picking",
        "minio",
        "kfp",
    ],
    "gate": ["miniml.gate.rules", "miniml.settings.arguments", "kfp"],
    "deploy": ["miniml.deployment.deploy", "miniml.preflight.run_plan", "minio", "kfp"],
    SERVING: ["serving.startup", "miniml.model.classifier"],
    "cli": ["miniml.cli.main", "miniml.sdk", "miniml.cluster.api", "miniml.store.repository", "shtab"],
}
"""What each image must be able to import, and whoever works with a cluster from elsewhere."""

EXTRAS = {stage: stage for stage in STAGES} | {SERVING: "serve", "cli": "cli"}


OWNERS = packages_distributions()
"""By importable module, the distributions that bring it."""


def installed_by(extra: str) -> set[str]:
    """The distributions that `miniml[extra]` brings, all that they ask for among them."""
    found: set[str] = set()
    asked = [("miniml", frozenset({extra}))]
    seen = set()
    while asked:
        name, extras = asked.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform
            continue
        found.add(name)
        for requirement in map(Requirement, requires):
            wanted = [{"extra": each} for each in extras] or [{"extra": ""}]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in wanted):
                asked.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


@pytest.mark.parametrize("stage", MODULES)
def test_a_stage_imports_nothing_that_its_extra_does_not_install(stage: str) -> None:
    there = installed_by(EXTRAS[stage])
    absent = sorted(
        module
        for module, owners in OWNERS.items()
        if module.isidentifier() and not there & {canonicalize_name(owner) for owner in owners}
    )
    assert {"pytest", "schemathesis"} <= set(absent)
    script = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(MODULES[stage])}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
