"""The reference of the pipelines: what each takes and makes, and their arguments by stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from docs.generator.component_page import definitions, type_of
from docs.generator.subjects import COMPILED, FIELDS, ROOT, STAGES
from docs.generator.tables import arguments_table, code, table

_ARGUMENTS = """\
## Arguments

A field of the form in the Kubeflow UI is an argument of its own; all others go by name into the argument `options`, as
in `{"dropout": 0.1}`. On the command line each is an option of its own: `--learning-rate 1e-4`. An argument of several
stages stands under the first of them."""


def page() -> str:
    """Returns the page of all pipelines and their arguments, in Markdown."""
    parts = ["# Pipelines and their arguments"]
    for path in sorted(COMPILED.glob("*.yaml"), reverse=True):
        parts += _section(path)
    parts.append(_ARGUMENTS)
    seen: set[str] = set()
    for stage, arguments in STAGES.items():
        parts += [f"### {stage}", arguments_table(arguments[name] for name in arguments if name not in seen)]
        seen |= arguments.keys()
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
