"""Words that came with the data, made fit to be shown: a label or a column's name may be anything at all."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

MAX_SHOWN = 60
"""Characters of a name that are shown, unless said otherwise."""

# What means something to Markdown, HTML, or those who replace placeholders. The rest is left as it is:
# "gut & schön" should read so.
_MEANINGFUL = frozenset('{}[]<>|`*\\$~"')


# Control characters and marks that turn the reading direction or separate lines; the joiners, which only shape letters
# and emoji, are none of them.
_OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_HARMLESS = frozenset("\n\t\u200c\u200d")


def plain(text: str) -> str:
    """The text as a terminal may be given it: whatever a terminal would obey, line ends and tabs apart, is shown by its
    number: \\x1b for an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _numbered(c) if unicodedata.category(c) in _OBEYED and c not in _HARMLESS else c for c in text
    )


def clipped(text: str, most: int) -> str:
    """The first `most` characters, the last of them an ellipsis where there are more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def quoted(name: str, most: int = MAX_SHOWN) -> str:
    """The first `most` characters of a name, in quotes, on one line: harmless in a log, a table of Markdown, or a page.

    What does not print (newlines, NUL, marks that turn the reading direction) and what has a meaning there is shown
    by its number: \\x0a for a newline.
    """
    return f'"{"".join(_numbered(c) if _is_risky(c) else c for c in clipped(name, most))}"'


def shown(value: Any, most: int = 80) -> str:
    """A value as Python writes it, its first `most` characters: a message stays short whatever the data hold."""
    return clipped(repr(value), most)


def listed(names: Iterable[str], most: int = 10) -> str:
    """The first names, as they are where no blank or sign would be overlooked, and how many more there are."""
    every = list(names)
    told = [name if _is_plain(name) else shown(name, MAX_SHOWN) for name in every[:most]]
    more = [f"and {len(every) - most:,} more"] if len(every) > most else []
    return ", ".join(told + more)


def printable(text: str) -> str:
    """The text on one line, with what does not print shown by its number: harmless in a terminal."""
    return "".join(c if c.isprintable() else _numbered(c) for c in text)


def without_placeholders(value: Any) -> Any:
    """The value, with `{ {` wherever a string in it has `{{`, which KFP would take for the start of a placeholder.

    KFP writes an artifact's metadata into the command line of the tasks that read it, and replaces placeholders there:
    a label `{{$.inputs.parameters['x']}}` would be answered.
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


def _numbered(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
