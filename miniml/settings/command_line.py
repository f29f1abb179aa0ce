"""Converts settings to command line options and back: every field of a settings dataclass is an option."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import textwrap
from itertools import pairwise
from typing import Any, TypeVar

from miniml.settings.field_types import field_types

Settings = TypeVar("Settings")


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """Adds an option to `parser` for each field of the dataclass `kind`, with the field's default and description."""
    types, descriptions = field_types(kind), descriptions_of(kind)
    for field in dataclasses.fields(kind):
        given: dict[str, Any] = {"type": types[field.name].kind, "metavar": repr(field.default)}
        if types[field.name].kind is bool:
            given = {"action": argparse.BooleanOptionalAction}
        described = descriptions.get(field.name, "").replace("%", "%%")
        parser.add_argument(_option(field.name), default=field.default, help=described, **given)


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


def settings_of(kind: type[Settings], options: argparse.Namespace) -> Settings:
    """Returns the settings that a parser has read.

    Raises:
        InputError: A value cannot be used.
    """
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: getattr(options, name) for name in names})


def words_of(settings: Any) -> list[str]:
    """Returns the command line arguments from which `settings_of` reads `settings`."""
    return [_word(name, value) for name, value in dataclasses.asdict(settings).items()]


def _word(name: str, value: object) -> str:
    if isinstance(value, bool):
        return _option(name) if value else _option(f"no_{name}")
    return f"{_option(name)}={value}"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
