"""What can be read from a compiled pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml
from kfp import compiler
from kfp.dsl.base_component import BaseComponent


def compiled_text(component: BaseComponent) -> str:
    """The component or pipeline as YAML."""
    with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
        path = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(component, str(path))
        return path.read_text(encoding="utf-8")


def stages_in_order(compiled: str) -> list[str]:
    """The stages' names in a compiled pipeline, in the order in which they run: each needs the ones before it."""
    spec = next(yaml.safe_load_all(compiled))
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    leaves = {
        name: set(task.get("dependentTasks", []))
        for dag in dags
        for name, task in dag["tasks"].items()
        if "dag" not in spec["components"][task["componentRef"]["name"]]
    }
    ordered: list[str] = []
    while leaves:
        ready = [name for name, needed in leaves.items() if not needed & leaves.keys()]
        # A task in a condition does not list what the condition waits for, so it goes behind the others.
        first = max(ready, key=lambda name: (name in spec["root"]["dag"]["tasks"], name))
        ordered.append(first)
        del leaves[first]
    return ordered
