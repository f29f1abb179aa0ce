"""What a pipeline tells of its arguments where no form shows it: generated from the settings, as all else is.

Kubeflow Pipelines 2.17 draws the description of a pipeline and of its version as Markdown, in a card of 34 rem at the
bottom of the pipeline's page, which does not scroll (frontend/src/components/navigators/PipelineVersionCard.tsx and
pages/PipelineDetailsV2.tsx): a long one pushes the card's own button out of sight. It travels in an address besides,
as does no more than some KB. So a version names the options, and the table of all stands in the pipeline itself, which
the page has in its tab Pipeline Spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from miniml.settings.arguments import OPTIONS, TAKEN_BY, Argument, arguments_of


def arguments_table(arguments: Mapping[str, Argument]) -> str:
    """All arguments by stage, each in a line of Markdown: its name, where it is given, its default, what it is."""
    lines = [
        f"Arguments: fields of the form, and all others by name in its field `{OPTIONS}`, a struct "
        f'(`{{"dropout": 0.1}}`). More on them: README.md, "Your own data".'
    ]
    for stage, own in by_stage(arguments).items():
        lines += ["", f"**{stage}**", "", "| argument | given as | default | |", "|---|---|---|---|"]
        lines += [_row(argument) for argument in own]
    return "\n".join(lines)


def options_by_stage(arguments: Mapping[str, Argument]) -> str:
    """The names of the options, in a paragraph of Markdown for each stage that has any."""
    told = [
        f"**{stage}** " + ", ".join(f"`{name}`" for name in names)
        for stage, own in by_stage(arguments).items()
        if (names := [argument.name for argument in own if not argument.in_form])
    ]
    return "\n\n".join(
        [f"The field {OPTIONS} takes, by name (defaults and meaning: tab Pipeline Spec, description):", *told]
    )


def by_stage(arguments: Mapping[str, Argument]) -> dict[str, list[Argument]]:
    """The arguments, each once: under the first stage that has it."""
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
