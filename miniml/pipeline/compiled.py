"""What can be read from a compiled pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.dsl.base_component import BaseComponent


def compiled_text(component: BaseComponent) -> str:
    """The component or pipeline as YAML."""
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        path = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(component, str(path))
        return path.read_text(encoding="utf-8")


def as_run_here(compiled: str) -> str:
    """The compiled pipeline without what is meant for a cluster.

    Every stage is tried once: a person is told at once, and tries again. No process has a pod's requests and limits, of
    which kfp.local would warn at each step that it goes by none.
    """
    spec, *others = yaml.safe_load_all(compiled)
    for dag in _dags(spec):
        for task in dag["tasks"].values():
            task.pop("retryPolicy", None)
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"].pop("resources", None)
    return str(yaml.safe_dump_all([spec, *others], sort_keys=False))


def stages_in_order(compiled: str) -> list[str]:
    """The stages' names in a compiled pipeline, in the order in which they run: each needs the ones before it.

    A stage in a loop is there once.
    """
    spec = next(yaml.safe_load_all(compiled))
    return _in_order(spec["root"]["dag"], spec["components"])


def _in_order(dag: dict[str, Any], components: dict[str, Any]) -> list[str]:
    left = dict(dag["tasks"])
    ordered: list[str] = []
    while left:
        first = max(name for name, task in left.items() if not left.keys() & task.get("dependentTasks", []))
        component = components[left.pop(first)["componentRef"]["name"]]
        # A condition or a loop is a task too, whose own tasks wait for nothing but each other.
        ordered += _in_order(component["dag"], components) if "dag" in component else [first]
    return ordered


def _dags(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
