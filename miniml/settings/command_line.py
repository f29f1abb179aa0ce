"""Converts settings to command line options and back: every field of a settings dataclass is an option."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar

from miniml.settings.arguments import Argument, arguments_of

Settings = TypeVar("Settings")


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """Adds an option to `parser` for each field of the dataclass `kind`, with the field's default and description."""
    for argument in arguments_of((kind,)).values():
        add_option(parser, argument, argument.default)


def add_option(parser: argparse._ActionsContainer, argument: Argument, default: Any) -> None:
    """Adds an option for an argument, with the argument's type and description.

    Args:
        parser: A parser, or a group of its options.
        argument: The argument. The help shows its own default in any case.
        default: The option's value where the command line does not have it; `argparse.SUPPRESS` for no value.
    """
    described = argument.description.replace("%", "%%")
    given: dict[str, Any] = {"type": argument.kind, "metavar": repr(argument.default)}
    if argument.kind is bool:
        given = {"action": argparse.BooleanOptionalAction}
        described += f" By default {'on' if argument.default else 'off'}."
    parser.add_argument(_option(argument.name), default=default, help=described, **given)


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
