"""Compiled pipelines and components: the YAML that Kubeflow Pipelines takes, and what can be read from it.

Running here, submitting and the command line go by this text alone: they need neither the Python that it was compiled
from nor `components/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from miniml.pipeline.build_settings import LOADER, BuildSettings, with_build_settings

TEXT_CLASSIFICATION = "text-classification"
HYPERPARAMETER_SEARCH = "hyperparameter-search"
PIPELINES = (TEXT_CLASSIFICATION, HYPERPARAMETER_SEARCH)
"""The names of the pipelines that miniml carries."""

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class CompiledPipeline:
    """A pipeline as YAML."""

    text: str
    """Its YAML, as the Kubeflow UI takes it."""

    @classmethod
    def named(cls, name: str, build: BuildSettings | None = None) -> CompiledPipeline:
        """Reads one of miniml's own pipelines.

        Args:
            name: One of `PIPELINES`.
            build: What its images are called and how many trials train at once; by default, what the environment says.
        """
        path = compiled_folder() / f"{file_name(name)}.yaml"
        return cls(with_build_settings(path.read_text(encoding="utf-8"), build))

    @cached_property
    def _spec(self) -> dict[str, Any]:
        return _spec_of(self.text)

    @property
    def name(self) -> str:
        """The pipeline's name: text-classification."""
        return str(self._spec["pipelineInfo"]["name"])

    @property
    def description(self) -> str:
        """The sentence that says what it does; the table of its arguments follows it in the YAML."""
        return str(self._spec["pipelineInfo"].get("description", "")).partition("\n\n")[0]

    @property
    def inputs(self) -> dict[str, Any]:
        """The default of each field of its form, by name."""
        parameters = self._spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return {name: parameter.get("defaultValue") for name, parameter in parameters.items()}

    @cached_property
    def stages(self) -> list[str]:
        """The names of its stages, in the order in which they run."""
        return stages_in_order(self.text)


def compiled_folder() -> Path:
    """Finds the folder with miniml's compiled YAML: in the installed package, or else in the checkout."""
    installed = _PACKAGE / "compiled"
    return installed if installed.is_dir() else _PACKAGE.parent / "pipelines" / "compiled"


def file_name(pipeline_name: str) -> str:
    """The name, without its ending, of the file that a pipeline is compiled to: text_classification."""
    return pipeline_name.replace("-", "_")


def component_names() -> list[str]:
    """The names of the components that miniml carries, in alphabetical order."""
    return sorted(path.stem for path in (compiled_folder() / "components").glob("*.yaml"))


def component_text(name: str, build: BuildSettings | None = None) -> str:
    """Reads one of miniml's own components as YAML.

    Args:
        name: One of `component_names`.
        build: What its image is called; by default, what the environment says.
    """
    path = compiled_folder() / "components" / f"{name}.yaml"
    return with_build_settings(path.read_text(encoding="utf-8"), build)


def as_run_here(compiled: str) -> str:
    """The compiled pipeline without what is meant for a cluster.

    Every stage is tried once: a person is told at once, and tries again. No process has a pod's requests and limits, of
    which kfp.local would warn at each step that it goes by none.
    """
    spec, *others = yaml.load_all(compiled, Loader=LOADER)  # safe, in C or not
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
    spec = _spec_of(compiled)
    return _in_order(spec["root"]["dag"], spec["components"])


def _spec_of(compiled: str) -> dict[str, Any]:
    """The first document of the YAML; the second, if any, is what Kubernetes is told of the steps."""
    spec: dict[str, Any] = next(yaml.load_all(compiled, Loader=LOADER))  # safe, in C or not
    return spec


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
