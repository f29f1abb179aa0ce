"""Markdown of values that may be anything: what is no markup of ours is shown character by character.

It reads the same by CommonMark, with GitHub's tables and bare links, and in KFP's UI (markdown-to-jsx), to which
`min_gain … error_rate` would be the beginning and the end of italics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from miniml.escaping import printable

# Anywhere; in a bare link, which takes an escaped character behind it for two; and where a value begins a line: a
# list's sign, and the mark behind a list's number.
_MEANINGFUL = re.compile(
    r"[\\`*_{}\[\]<>|~$&#^]|=(?==)|(?<==)=|:(?=//)|(?<=www)\.|^[-+=]|^\d+(?=[.)](\s|$))", re.IGNORECASE
)


class Markdown(str):
    """Text that is Markdown already: `escaped` leaves it as it is."""

    __slots__ = ()


def escaped(text: str) -> Markdown:
    """The text as Markdown that shows it character by character, on one line, wherever it is put.

    What does not print is shown by its number: \\x0a for a newline.
    """
    if isinstance(text, Markdown):
        return text
    return Markdown(_MEANINGFUL.sub(_taken_literally, printable(text)))


def strong(text: str) -> Markdown:
    """The text in bold."""
    return Markdown(f"**{escaped(text.strip(' '))}**")


def code(text: str) -> Markdown:
    """The text as code, to be copied; as plain text where a code span, or the table around it, cannot hold it."""
    if not text.strip(" ") or set("`|") & set(text):
        return escaped(text)
    return Markdown(f"`{printable(text.strip(' '))}`")


def _taken_literally(found: re.Match[str]) -> str:
    """What was found, with the backslash before it; behind a number, before the mark that follows."""
    return f"{found[0]}\\" if found[0].isdecimal() else f"\\{found[0]}"


def heading(text: str) -> str:
    """A line that names the page."""
    return f"# {escaped(text)}\n"


def paragraph(text: str) -> str:
    """A line of its own."""
    return f"{escaped(text.strip(' '))}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, of one row a line below its `head`."""
    below = Markdown("---")
    return "".join(f"| {' | '.join(map(escaped, row))} |\n" for row in [head, [below for _ in head], *rows])


def bullets(items: Iterable[str]) -> str:
    """A list, of one item a line."""
    return "".join(f"- {escaped(item.strip(' '))}\n" for item in items)
