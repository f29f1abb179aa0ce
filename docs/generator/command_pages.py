"""The reference of the command line: every command and option, read from the parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from docs.generator.subjects import ROOT, parsers
from docs.generator.tables import code, table


def pages() -> dict[str, str]:
    """Returns a page of Markdown for each program, by file name."""
    return {_file_name(parser): "\n\n".join(_sections(parser)) + "\n" for parser in parsers()}


def _file_name(parser: argparse.ArgumentParser) -> str:
    return re.sub(r"\W+", "-", parser.prog.removeprefix("python -m ")) + ".md"


def _sections(
    parser: argparse.ArgumentParser, level: int = 1, program: str = "", summary: str = ""
) -> Iterator[str]:
    """Yields what is said of a parser and, below it, of its commands.

    Args:
        parser: The parser.
        level: The level of its heading.
        program: The name of the program, which the headings of its commands leave out.
        summary: What its parent's help says of it.
    """
    program = program or parser.prog
    yield "#" * level + " " + (parser.prog.removeprefix(program).strip() or program)
    yield parser.description or _sentence(summary)
    # argparse has no public way to a parser's options; tests/repository/test_docs.py holds the pages to what `--help`
    # prints.
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    shown = [action for action in parser._actions if action not in commands and _is_shown(action)]
    if shown:
        yield table(["option", "default", "description"], (_row(parser, action) for action in shown))
    yield parser.epilog or ""
    for action in commands:
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, command in action.choices.items():
            yield from _sections(command, level + 1, program, summaries.get(name, ""))


def _is_shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    name = ", ".join(map(code, action.option_strings)) or code(action.metavar or action.dest)
    description = _sentence((action.help or "") % {**vars(action), "prog": parser.prog})
    if action.choices:
        description += " One of " + ", ".join(map(code, action.choices)) + "."
    return [name, _default(action), description]


def _default(action: argparse.Action) -> str:
    """Returns the default. Of an option without one the pipeline has it, which the help shows in place of a value."""
    value = action.default
    if value is argparse.SUPPRESS:
        return code(action.metavar or "")
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        value = value.relative_to(ROOT)
    is_switch = isinstance(action, argparse._StoreTrueAction | argparse._StoreFalseAction)
    return "" if is_switch or value is None else code(value)


def _sentence(text: str) -> str:
    """Returns a help's text, which argparse's own begins small and ends without a full stop, as a sentence."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""
