"""Tables in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from docs.generator.subjects import FIELDS
from miniml.settings.arguments import Argument


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table.

    Args:
        head: The columns' titles.
        rows: The cells of each row, in Markdown; a line end or a bar in one does not end it.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def arguments_table(arguments: Iterable[Argument]) -> str:
    """Returns a table of arguments: type or choices, default, whether a pipeline has it as a field, and description.

    Args:
        arguments: The arguments, each a row.
    """
    return table(["argument", "type", "default", "given as", "description"], map(_row, arguments))


def options_table(arguments: Iterable[Argument]) -> str:
    """Returns a table of arguments as options of the command line: type or choices, default and description.

    Args:
        arguments: The arguments, each a row.
    """
    return table(["argument", "type", "default", "description"], map(_option_row, arguments))


def code(text: object) -> str:
    """Returns text as code, whatever characters it holds."""
    words = str(text)
    fence = "``" if "`" in words else "`"
    return f"{fence}{words}{fence}" if words else ""


def default(value: object) -> str:
    """Returns a default as code, a string in quotation marks."""
    return code(f'"{value}"' if isinstance(value, str) else value)


def _row(argument: Argument) -> list[str]:
    given_as = "field" if argument.name in FIELDS else code("options")
    return [code(argument.name), _kind(argument), default(argument.default), given_as, argument.description]


def _option_row(argument: Argument) -> list[str]:
    # The choices stand in a column of their own.
    name, description = argument.name.replace("_", "-"), argument.description.partition(" One of ")[0]
    return [code(f"--{name}"), _kind(argument), default(argument.default), description]


def _kind(argument: Argument) -> str:
    return ", ".join(map(code, argument.choices)) or code(argument.kind.__name__)


def _cell(text: str) -> str:
    """Returns a cell's text on one line, in which what looks like a tag or a bar of the table is a character."""
    parts = re.split(r"(`+.+?`+)", " ".join(text.split()))
    prose, codes = parts[::2], parts[1::2]
    escaped = [html.escape(part, quote=False).replace("*", r"\*") for part in prose]
    return "".join(chain.from_iterable(zip_longest(escaped, codes, fillvalue=""))).replace("|", r"\|")
