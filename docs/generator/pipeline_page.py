"""The reference of the pipelines: what each takes and makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from docs.generator.component_page import definitions, type_of
from docs.generator.subjects import COMPILED, FIELDS, ROOT
from docs.generator.tables import code, table


def page() -> str:
    """Returns the page of all pipelines, in Markdown."""
    parts = ["# Pipelines", "What their arguments are, says [a page of its own](../arguments.md)."]
    for path in sorted(COMPILED.glob("*.yaml"), reverse=True):
        parts += _section(path)
    return "\n\n".join(parts) + "\n"


def _section(path: Path) -> Iterator[str]:
    specification = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    information, root = specification["pipelineInfo"], specification["root"]
    inputs = {name for name, _ in definitions(root["inputDefinitions"])}
    outputs = definitions(root["outputDefinitions"])
    yield f"## {information['name']}"
    # Below its first paragraph a pipeline's own description has the table of its arguments.
    yield information["description"].partition("\n\n")[0]
    yield f"File: {code(path.relative_to(ROOT))}."
    yield "Fields of its form: " + ", ".join(code(name) for name in FIELDS if name in inputs) + ", `options`."
    yield table(["output", "type"], ([code(name), code(type_of(each))] for name, each in outputs))
