"""Reads compiled pipelines and components, the YAML that Kubeflow Pipelines takes.

The command line, and runs here or on a cluster, need only this text, and not the Python that it was compiled from.
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
"""The names of the pipelines in the package."""

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class CompiledPipeline:
    """A compiled pipeline."""

    text: str
    """The YAML, as the Kubeflow UI takes it."""

    @classmethod
    def named(cls, name: str, build: BuildSettings | None = None) -> CompiledPipeline:
        """Reads one of miniml's own pipelines.

        Args:
            name: One of `PIPELINES`.
            build: The settings of the build; by default those of the environment.
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
        """The description of the pipeline in one sentence, without the table of arguments that follows in the YAML."""
        return str(self._spec["pipelineInfo"].get("description", "")).partition("\n\n")[0]

    @property
    def inputs(self) -> dict[str, Any]:
        """The defaults of the fields of the pipeline's form, by name."""
        parameters = self._spec["root"].get("inputDefinitions", {}).get("parameters", {})
        return {name: parameter.get("defaultValue") for name, parameter in parameters.items()}

    @cached_property
    def stages(self) -> list[str]:
        """The names of the stages, in the order in which they run."""
        return stages_in_order(self.text)


def compiled_folder() -> Path:
    """Returns the folder with miniml's compiled YAML, in the installed package or in the checkout."""
    installed = _PACKAGE / "compiled"
    return installed if installed.is_dir() else _PACKAGE.parent / "pipelines" / "compiled"


def file_name(pipeline_name: str) -> str:
    """Returns the name, without suffix, of a compiled pipeline's file: text_classification."""
    return pipeline_name.replace("-", "_")


def component_names() -> list[str]:
    """Returns the names of the components in the package, in alphabetical order."""
    return sorted(path.stem for path in (compiled_folder() / "components").glob("*.yaml"))


def component_text(name: str, build: BuildSettings | None = None) -> str:
    """Reads one of miniml's own components as YAML.

    Args:
        name: One of `component_names`.
        build: The settings of the build; by default those of the environment.
    """
    path = compiled_folder() / "components" / f"{name}.yaml"
    return with_build_settings(path.read_text(encoding="utf-8"), build)


def as_run_here(compiled: str) -> str:
    """Returns the compiled pipeline without retries and resources, which are meant for a cluster.

    On this machine a person sees a failure at once. kfp.local ignores resources, and would warn of that at each step.
    """
    spec, *others = yaml.load_all(compiled, Loader=LOADER)
    for dag in _dags(spec):
        for task in dag["tasks"].values():
            task.pop("retryPolicy", None)
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"].pop("resources", None)
    return str(yaml.safe_dump_all([spec, *others], sort_keys=False))


def stages_in_order(compiled: str) -> list[str]:
    """Returns the names of a compiled pipeline's stages in the order in which they run.

    A stage in a loop is listed once.
    """
    spec = _spec_of(compiled)
    return _in_order(spec["root"]["dag"], spec["components"])


def _spec_of(compiled: str) -> dict[str, Any]:
    """Returns the first document of the YAML, the pipeline; a second one, if any, configures the pods."""
    spec: dict[str, Any] = next(yaml.load_all(compiled, Loader=LOADER))
    return spec


def _in_order(dag: dict[str, Any], components: dict[str, Any]) -> list[str]:
    left = dict(dag["tasks"])
    ordered: list[str] = []
    while left:
        first = max(name for name, task in left.items() if not left.keys() & task.get("dependentTasks", []))
        component = components[left.pop(first)["componentRef"]["name"]]
        # A condition or a loop is a task too; its inner tasks depend only on each other.
        ordered += _in_order(component["dag"], components) if "dag" in component else [first]
    return ordered


def _dags(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
