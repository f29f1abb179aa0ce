"""Writes the tables of arguments that are committed: docs/arguments.md, and those of the README between their markers.

python -m docs.generator.arguments

`make compile` calls it, and a test holds the tables to the settings that they are made of.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from docs.generator.subjects import ROOT, STAGES
from docs.generator.tables import arguments_table, options_table

_BETWEEN = re.compile(
    r"(?P<begin><!-- arguments, written by `make compile`: (?P<names>[\w\s]+)-->\n).*?(?P<end><!-- end -->)",
    re.S,
)
_INTRODUCTION = """\
# Arguments

A field of the form in the Kubeflow UI is an argument of its own; all others go by name into the argument `options`, as
in `{"dropout": 0.1}`. On the command line each is an option of its own: `--learning-rate 1e-4`. An argument of several
stages stands under the first of them. This page is written by `make compile`, from the descriptions in
`miniml/settings`."""


def files() -> dict[Path, str]:
    """Returns the text that each file with a table of arguments should have."""
    readme = ROOT / "README.md"
    return {
        ROOT / "docs" / "arguments.md": page(),
        readme: _BETWEEN.sub(_filled, readme.read_text(encoding="utf-8")),
    }


def page() -> str:
    """Returns the page of all arguments by stage, in Markdown."""
    parts = [_INTRODUCTION]
    seen: set[str] = set()
    for stage, arguments in STAGES.items():
        parts += [f"## {stage}", arguments_table(arguments[name] for name in arguments if name not in seen)]
        seen |= arguments.keys()
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _filled(block: re.Match[str]) -> str:
    """Returns a block of the README with the table of the arguments that its first line names."""
    known = {
        name: argument for arguments in reversed(STAGES.values()) for name, argument in arguments.items()
    }
    rows = options_table(known[name] for name in block["names"].split())
    return f"{block['begin']}\n{rows}\n{block['end']}"


def main() -> None:
    """Writes the files anew."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(os.path.relpath(path))


if __name__ == "__main__":
    main()
