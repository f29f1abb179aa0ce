"""Writes the descriptions of pipelines and their versions, which list the arguments, from the settings.

Kubeflow Pipelines 2.17 shows the description of a pipeline and of its version as Markdown, in a card of 34 rem at the
bottom of the pipeline's page, which does not scroll (frontend/src/components/navigators/PipelineVersionCard.tsx and
pages/PipelineDetailsV2.tsx): a long text pushes the card's button out of sight. Also, the client sends the version's
description in a URL, which holds only a few KB. So a version's description has the names of the options, and the
pipeline's own description, which the page shows in its tab Pipeline Spec, has a table of all arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from miniml.settings.arguments import OPTIONS, TAKEN_BY, Argument, arguments_of


def arguments_table(arguments: Mapping[str, Argument]) -> str:
    """Returns a table in Markdown for each stage: its arguments, where they are given, defaults and descriptions."""
    lines = [
        f"Arguments: fields of the form, and all others by name in its field `{OPTIONS}`, a struct "
        f'(`{{"dropout": 0.1}}`). More on them: README.md, "Your own data".'
    ]
    for stage, own in by_stage(arguments).items():
        lines += ["", f"**{stage}**", "", "| argument | given as | default | |", "|---|---|---|---|"]
        lines += [_row(argument) for argument in own]
    return "\n".join(lines)


def options_by_stage(arguments: Mapping[str, Argument]) -> str:
    """Returns the names of the options in Markdown, with a paragraph for each stage that has any."""
    paragraphs = [
        f"**{stage}** " + ", ".join(f"`{name}`" for name in names)
        for stage, own in by_stage(arguments).items()
        if (names := [argument.name for argument in own if not argument.in_form])
    ]
    return "\n\n".join(
        [
            f"The field {OPTIONS} takes, by name (defaults and meaning: tab Pipeline Spec, description):",
            *paragraphs,
        ]
    )


def by_stage(arguments: Mapping[str, Argument]) -> dict[str, list[Argument]]:
    """Returns the arguments by stage; an argument of several stages is listed under the first of them."""
    left, found = dict(arguments), {}
    for stage, kinds in TAKEN_BY.items():
        own = [left.pop(name) for name in arguments_of(kinds) if name in left]
        if own:
            found[stage] = own
    return found


def _row(argument: Argument) -> str:
    cells = [
        f"`{argument.name}`",
        "field" if argument.in_form else OPTIONS,
        f"`{json.dumps(argument.default)}`",
        argument.description,
    ]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
