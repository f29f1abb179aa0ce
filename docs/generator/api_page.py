"""The reference of the Python API, of whose docstrings mkdocstrings makes a page without importing anything."""

from __future__ import annotations

from docs.generator.subjects import API


def page() -> str:
    """Returns the page of the public functions and classes, in Markdown for mkdocstrings."""
    return "\n\n".join(["# Python", *(f"::: {name}" for name in API)]) + "\n"
