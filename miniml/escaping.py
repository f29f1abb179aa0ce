"""Escapes text from the data, such as a label or a column's name, before it is shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

MAX_SHOWN = 60
"""The default number of characters of a name that are shown."""

# Characters with a meaning in Markdown, HTML or placeholders. All others stay, so that "gut & schön" remains readable.
_MEANINGFUL = frozenset('{}[]<>|`*\\$~"')

# The Unicode categories of control characters, and of marks that change the reading direction or separate lines. The
# joiners only shape letters and emoji, and are harmless.
_CONTROL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_HARMLESS = frozenset("\n\t\u200c\u200d")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def plain(text: str) -> str:
    """Escapes what would control a terminal, except for line ends and tabs: \\x1b stands for an escape character."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(c) if unicodedata.category(c) in _CONTROL and c not in _HARMLESS else c for c in text
    )


def plain_without_colours(text: str) -> str:
    """Escapes text like `plain`, without the colours in it: a program prints those, whatever else is from the data."""
    return plain(_COLOUR.sub("", text))


def clipped(text: str, most: int) -> str:
    """Returns at most `most` characters of the text, the last of which is an ellipsis if there are more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def quoted(name: str, most: int = MAX_SHOWN) -> str:
    """Returns a name in quotes on one line, which is safe in a log, a table of Markdown, or an HTML page.

    Characters that are not printable (newlines, NUL, marks that change the reading direction) or have a meaning in
    Markdown or HTML are escaped: \\x0a stands for a newline.

    Args:
        name: The name.
        most: The number of its characters that are shown.
    """
    return f'"{"".join(_escaped(c) if _is_risky(c) else c for c in clipped(name, most))}"'


def shown(value: Any, most: int = 80) -> str:
    """Returns the first `most` characters of the value's `repr`, so that a message stays short for any data."""
    return clipped(repr(value), most)


def listed(names: Iterable[str], most: int = 10) -> str:
    """Lists the first `most` names, and says how many more there are.

    A name is quoted if it holds blanks at its ends or characters that are not printable, or is empty or long.
    """
    every = list(names)
    first = [name if _is_plain(name) else shown(name, MAX_SHOWN) for name in every[:most]]
    more = [f"and {len(every) - most:,} more"] if len(every) > most else []
    return ", ".join(first + more)


def printable(text: str) -> str:
    """Returns the text on one line, with characters escaped that are not printable."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def without_placeholders(value: Any) -> Any:
    """Returns the value with `{ {` for each `{{` in its strings, which KFP would read as the start of a placeholder.

    KFP writes an artifact's metadata into the command line of the tasks that read it, and replaces placeholders there,
    so it would replace a label `{{$.inputs.parameters['x']}}`.
    """
    if isinstance(value, str):
        while "{{" in value:
            value = value.replace("{{", "{ {")
        return value
    if isinstance(value, dict):
        return {without_placeholders(key): without_placeholders(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_placeholders(entry) for entry in value]
    return value


def _is_plain(name: str) -> bool:
    return bool(name) and name == name.strip() and name.isprintable() and len(name) <= MAX_SHOWN


def _is_risky(character: str) -> bool:
    return character in _MEANINGFUL or not character.isprintable()


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
