"""An argument parser whose errors fit on a line: what is wrong, the nearest name, and the way to help."""

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
"""Characters of an error: argparse repeats whatever was written."""
USAGE_ERROR = 2
"""The exit status of a command that was written wrongly, as argparse has it."""


class CommandParser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, without its usage of a hundred lines before an error of one.

    An option has to be written out: an abbreviation would mean another option once a new one begins like it.
    """

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **{"allow_abbrev": False, **named})
        # A command's parser sets this after its parent's, so that the options tell which of them read the words.
        self.set_defaults(_parser=self)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads `args`, by default the command line's; an unknown word ends the program with its nearest name."""
        options, unknown = self.parse_known_args(args, namespace)
        parser: CommandParser = options._parser
        del options._parser
        if unknown:
            parser.refuse(unknown)
        return options

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Ends the program over words of the command line that are no options."""
        word = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        options = sorted(set(re.findall(r"(?<![\w-])--[\w-]+", self.format_help())))
        kind = "option" if word.startswith("-") else "argument"
        self.error(f"there is no {kind} {quoted(word)}{nearest(word, options)}")

    def error(self, message: str) -> NoReturn:
        """Ends the program with `message` on one line, as argparse calls it."""
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
        ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty. Name a folder, or . for this one")
    return Path(text)


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that was probably meant, as the end of a sentence; "" where none is like it."""
    # Whoever writes underscores for dashes means the same.
    known = {name.replace("_", "-"): name for name in names}
    found = difflib.get_close_matches(word.replace("_", "-"), known, n=1)
    return f"; did you mean {known[found[0]]}?" if found else ""
