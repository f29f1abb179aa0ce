"""Parses command lines with errors that fit on a line: what is wrong, the nearest name, and how to get help."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from miniml.escaping import clipped, quoted

_NO_CHOICE = re.compile(
    r"argument (?P<what>[^:]+): invalid choice: '?(?P<word>.*?)'? \(choose from (?P<of>.+)\)"
)
LONGEST = 600
"""The maximum length of an error in characters, since argparse repeats whatever was typed."""
USAGE_ERROR = 2
"""The exit status of an invalid command line (argparse's)."""


class CommandParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that does not print its usage, of a hundred lines, before an error.

    Options cannot be abbreviated: an abbreviation would become ambiguous once a new option begins like it.
    """

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **{"allow_abbrev": False, **named})
        # A subcommand's parser sets this after its parent's, so the options say which parser read the words.
        self.set_defaults(_parser=self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses `args`, by default the command line's.

        Raises:
            SystemExit: a word is unknown. The message names the nearest one.
        """
        options, unknown = self.parse_known_args(args, namespace)
        parser: CommandParser = options._parser
        del options._parser
        if unknown:
            parser.refuse(unknown)
        return options

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Ends the program with an error about words of the command line that are not options.

        Raises:
            SystemExit: always.
        """
        word = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        options = sorted(set(re.findall(r"(?<![\w-])--[\w-]+", self.format_help())))
        kind = "option" if word.startswith("-") else "argument"
        self.error(f"there is no {kind} {quoted(word)}{nearest(word, options)}")

    def error(self, message: str) -> NoReturn:
        """Ends the program with `message` on one line; argparse calls this.

        Raises:
            SystemExit: always.
        """
        if found := _NO_CHOICE.fullmatch(message):
            choices = re.findall(r"[\w.-]+", found["of"])
            message = f"{found['what']} {quoted(found['word'])} is none of {', '.join(choices)}"
            message += nearest(found["word"], choices)
        print(
            f"error: {clipped(message, LONGEST).rstrip('.')}. All there is: {self.prog} --help",
            file=sys.stderr,
        )
        raise SystemExit(USAGE_ERROR)


def folder(text: str) -> Path:
    """Reads an option that names a folder: an empty one, as of a variable that is not set, is not this folder.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty. Name a folder, or . for this one")
    return Path(text)


def nearest(word: str, names: Iterable[str]) -> str:
    """Returns the name that was probably meant, as the end of a sentence; "" if none is similar."""
    # An option typed with underscores for dashes is the same option.
    known = {name.replace("_", "-"): name for name in names}
    found = difflib.get_close_matches(word.replace("_", "-"), known, n=1)
    return f"; did you mean {known[found[0]]}?" if found else ""
