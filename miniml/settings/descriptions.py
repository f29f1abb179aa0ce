"""Reads the descriptions of settings from the docstrings below the fields of their dataclasses."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from itertools import pairwise


def descriptions_of(kind: type) -> dict[str, str]:
    """Returns the description of each field of the dataclass `kind`: the first sentence of the docstring below it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in pairwise(tree.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = _first_sentence(text)
    return found


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) ", " ".join(text.split()), maxsplit=1)[0]
