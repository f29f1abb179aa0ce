"""Gathers the pages of the documentation: those of the repository, and the reference, which is made of the code.

python -m docs.generator [FOLDER]

They go to FOLDER/build/pages (of the repository by default), from where mkdocs.yml takes them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from docs.generator import api_page, command_pages, component_page, pipeline_page
from docs.generator.gathering import gather
from docs.generator.subjects import ROOT

REFERENCE = {
    "components.md": component_page.page,
    "pipelines.md": pipeline_page.page,
    "python.md": api_page.page,
}
"""The generated pages, beside one for each command, and what makes them."""


def main(folder: Path = ROOT) -> None:
    """Writes all pages anew.

    Args:
        folder: The folder below which `build/pages` is replaced.
    """
    pages = folder / "build" / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    gather(ROOT, pages)
    made = {**{name: make() for name, make in REFERENCE.items()}, **command_pages.pages()}
    reference = pages / "reference"
    for name, text in made.items():
        (reference / name).write_text(text, encoding="utf-8")
    with (reference / "README.md").open("a", encoding="utf-8") as index:
        index.writelines(f"- [{_title(text)}]({name})\n" for name, text in made.items())


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
