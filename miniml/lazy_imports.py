"""Imports a module's public names when they are first asked for, so that the module itself brings in no library."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns the function `__getattr__` of a module (PEP 562, https://peps.python.org/pep-0562/).

    Args:
        module: The module's own name.
        homes: For each public name the module that defines it.

    Returns:
        The function, which raises AttributeError for a name that is not among them.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = getattr(import_module(homes[name]), name)
        setattr(sys.modules[module], name, found)
        return found

    return find
