"""The repository's own pages, with their links changed to lead to where the site has what they lead to."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath

AT_THE_ROOT = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages that stand beside `docs`, and what the site calls them."""
FILES = "files"
"""The site's folder of files of the repository that a page leads to."""
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?=[)#\s])")


def gather(root: Path, pages: Path) -> None:
    """Copies all pages, the images beside them, and what they lead to.

    Args:
        root: The repository.
        pages: The folder to write, which must not exist yet.
    """
    shutil.copytree(root / "docs", pages, ignore=shutil.ignore_patterns("generator", "*.py", "__pycache__"))
    for name, called in AT_THE_ROOT.items():
        shutil.copy(root / name, pages / called)
    for page in sorted(pages.rglob("*.md")):
        called = page.relative_to(pages).as_posix()
        source = next((name for name, as_page in AT_THE_ROOT.items() if as_page == called), f"docs/{called}")
        text = page.read_text(encoding="utf-8")
        page.write_text(relinked(text, source, root, pages), encoding="utf-8")


def relinked(text: str, source: str, root: Path, pages: Path) -> str:
    """Returns a page's text with links that lead to the site's pages and files, which are copied where it needs them.

    A link that leads nowhere stays as it is, for the site's build to complain of.

    Args:
        text: The page, in Markdown.
        source: Its path in the repository, which its links go from.
        root: The repository.
        pages: The site's pages.
    """
    beside = PurePosixPath(_in_site(source)).parent

    def changed(link: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(source).parent / link["path"])
        if not (root / target).is_file():
            return link["path"]
        place = _in_site(target)
        if not (pages / place).exists():
            (pages / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / target, pages / place)
        return os.path.relpath(place, beside)

    return _LINK.sub(changed, text)


def _in_site(path: str) -> str:
    """Returns where the site has a file of the repository."""
    if path in AT_THE_ROOT:
        return AT_THE_ROOT[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{FILES}/{path}"
