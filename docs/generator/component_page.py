"""The reference of the components, read from their compiled YAML, which other people's pipelines load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kfp.components import load_component_from_file

from docs.generator.subjects import COMPILED, ROOT, options_of
from docs.generator.tables import arguments_table, code, default, table

_TYPES = {
    "BOOLEAN": "bool",
    "LIST": "list",
    "NUMBER_DOUBLE": "float",
    "NUMBER_INTEGER": "int",
    "STRING": "str",
    "STRUCT": "dict",
}
"""How Python writes the types of parameters, by their names in compiled YAML."""
_INTRODUCTION = """\
# Components

Each stage of the pipelines, as a Kubeflow component for any pipeline. Load one with
`kfp.components.load_component_from_file`, or from the address of its YAML file with `load_component_from_url`."""


def page() -> str:
    """Returns the page of all components, in Markdown."""
    files = sorted((COMPILED / "components").glob("*.yaml"))
    return "\n\n".join([_INTRODUCTION, *(part for path in files for part in _section(path))]) + "\n"


def definitions(side: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the artifacts and then the parameters of a component's inputs or outputs.

    Args:
        side: The component's `inputDefinitions` or `outputDefinitions`, from compiled YAML.
    """
    for kind in ("artifacts", "parameters"):
        yield from side.get(kind, {}).items()


def type_of(definition: dict[str, Any]) -> str:
    """Returns the type of an input or an output, as Python writes it.

    Args:
        definition: The input or output, from compiled YAML.
    """
    if "parameterType" in definition:
        return _TYPES[definition["parameterType"]]
    name = definition["artifactType"]["schemaTitle"].removeprefix("system.")
    return f"list[{name}]" if definition.get("isArtifactList") else name


def _section(path: Path) -> Iterator[str]:
    component = load_component_from_file(str(path))
    specification = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    [definition] = specification["components"].values()
    [executor] = specification["deploymentSpec"]["executors"].values()
    inputs = definitions(definition.get("inputDefinitions", {}))
    outputs = definitions(definition.get("outputDefinitions", {}))
    yield f"## {component.name}"
    yield component.description or ""
    yield f"File: {code(path.relative_to(ROOT))}. Image: {code(executor['container']['image'])}."
    yield f"### Inputs of {component.name}"
    yield table(["input", "type", "default", "description"], (_input_row(*each) for each in inputs))
    yield f"### Outputs of {component.name}"
    yield table(["output", "type", "description"], (_output_row(*each) for each in outputs))
    if options := options_of(component.name):
        yield f"### Options of {component.name}"
        yield "By name in the input `options`:"
        yield arguments_table(options.values())


def _input_row(name: str, definition: dict[str, Any]) -> list[str]:
    kind = type_of(definition)
    value = definition.get("defaultValue")
    if value is not None:
        shown = default(int(value) if kind == "int" else value)  # YAML has every number as a float
    else:
        shown = "none" if definition.get("isOptional") else "required"
    return [code(name), code(kind), shown, definition.get("description", "")]


def _output_row(name: str, definition: dict[str, Any]) -> list[str]:
    return [code(name), code(type_of(definition)), definition.get("description", "")]
