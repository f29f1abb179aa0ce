"""Writes Markdown in which every value is escaped, so that it is shown as it is.

The result renders alike by CommonMark, with GitHub's tables and bare links, and in KFP's UI (markdown-to-jsx), which
would take the underscores of `min_gain … error_rate` for italics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from miniml.escaping import printable

# Characters that are markup anywhere; in a bare link, where an escaped character after it would be read as two; at
# the beginning of a line, as a list's bullet or behind a list's number.
_MARKUP = re.compile(
    r"[\\`*_{}\[\]<>|~$&#^]|=(?==)|(?<==)=|:(?=//)|(?<=www)\.|^[-+=]|^\d+(?=[.)](\s|$))", re.IGNORECASE
)


class Markdown(str):
    """Text that is Markdown already, which `escaped` does not change."""

    __slots__ = ()


def escaped(text: str) -> Markdown:
    r"""Returns Markdown that shows the text as it is, on one line.

    Unprintable characters are shown by their number, a newline as \x0a.
    """
    if isinstance(text, Markdown):
        return text
    return Markdown(_MARKUP.sub(_with_backslash, printable(text)))


def strong(text: str) -> Markdown:
    """Returns the text in bold; of blanks nothing, since `****` would be read as it is."""
    stripped = text.strip(" ")
    return Markdown(f"**{escaped(stripped)}**") if stripped else Markdown()


def code(text: str) -> Markdown:
    """Returns the text as a code span, or as plain text if a code span or the table around it cannot hold it."""
    if not text.strip(" ") or set("`|") & set(text):
        return escaped(text)
    return Markdown(f"`{printable(text.strip(' '))}`")


def _with_backslash(found: re.Match[str]) -> str:
    """Returns the match with a backslash before it, or behind it if it is a list's number."""
    return f"{found[0]}\\" if found[0].isdecimal() else f"\\{found[0]}"


def heading(text: str) -> str:
    """Returns a heading of the first level."""
    return f"# {escaped(text)}\n"


def paragraph(text: str) -> str:
    """Returns the text as a line of its own."""
    return f"{escaped(text.strip(' '))}\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table with a header row."""
    rule = Markdown("---")
    return "".join(f"| {' | '.join(map(escaped, row))} |\n" for row in [head, [rule for _ in head], *rows])


def bullets(items: Iterable[str]) -> str:
    """Returns a bulleted list, one item a line."""
    return "".join(f"- {escaped(item.strip(' '))}\n" for item in items)
