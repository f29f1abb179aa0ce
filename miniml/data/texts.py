"""Finds faults in single texts, such as HTML or a wrong encoding, and cleans them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.entities import html5
from typing import Any

import numpy as np
import pyarrow as pa
from ftfy import fix_encoding
from ftfy.badness import is_bad
from ftfy.fixes import fix_c1_controls

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# Elements that remain in texts from web pages; "<sarcasm>" and "<3" are not among them.
_ELEMENTS = (
    "a|abbr|article|aside|b|big|blockquote|body|br|button|center|code|del|div|em|font|footer|form|h[1-6]|head|"
    "header|hr|html|i|iframe|img|input|ins|label|li|link|main|meta|nav|noscript|ol|option|p|pre|q|s|script|section|"
    "select|small|span|strike|strong|style|sub|sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|video"
)
HTML_TAG = re.compile(rf"</?(?:{_ELEMENTS})(?:\s[^<>]*)?/?>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
HTML_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z]\w{1,31});", re.IGNORECASE)
# All but tab, line feed, carriage return, and the characters of _WINDOWS.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d]")
# Windows-1252 has dashes and quotation marks at these numbers; in Latin-1 they are control characters nobody uses.
_WINDOWS = re.compile(r"[\x80\x82-\x8c\x8e\x91-\x9c\x9e\x9f]")
# The first two bytes of a character in UTF-8, read as Latin-1 or Windows-1252. ftfy decides, but takes 0.2 ms for a
# review, so only texts with such a hint are passed to it.
_MOJIBAKE_HINT = re.compile(
    "[\u00c2-\u00f4][\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014"
    "\u2018-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]"
)
REPLACEMENT = "\ufffd"

# Flags: what a byte of UTF-8 may be part of. White space is any except the space itself.
_CONTROL, _MARKUP, _BEYOND_ASCII, _WHITE_SPACE = 1, 2, 4, 8
_MEANING = np.zeros(256, np.uint8)
_MEANING[:32] = _MEANING[127] = _CONTROL
_MEANING[[9, 10, 13]] = 0
_MEANING[[*range(9, 14), *range(28, 32)]] |= _WHITE_SPACE
_MEANING[[ord("<"), ord("&")]] = _MARKUP
_MEANING[128:] = _BEYOND_ASCII
_MEANING_OF_BYTES = _MEANING.tobytes()
_SPACE = ord(" ")


def meanings(texts: pa.StringArray) -> Bytes:
    """Returns flags for each text: what its bytes may be part of. It is fast, and most texts need no further check."""
    starts, content = string_buffers(texts)
    found = np.zeros(len(texts), np.uint8)
    filled = np.flatnonzero(np.diff(starts))
    if len(filled):
        # Three times as fast as numpy's own look-up.
        looked_up = np.frombuffer(content.tobytes().translate(_MEANING_OF_BYTES), np.uint8)
        found[filled] = np.bitwise_or.reduceat(looked_up, starts[filled])
    return found


def suspicious(meanings: Bytes) -> Iterator[tuple[int, int]]:
    """Yields the numbers of the texts that may have a fault, with their flags but for white space."""
    faulty = meanings & ~np.uint8(_WHITE_SPACE)
    for number in np.flatnonzero(faulty).tolist():
        yield number, int(faulty[number])


def evenly_spaced(texts: pa.StringArray, meanings: Bytes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns a mask of the texts that `" ".join(text.split())` would not change; it may miss some.

    Most texts are such, and this check is faster than the normalisation.

    Args:
        texts: The texts.
        meanings: Their flags, from `meanings`.
    """
    starts, content = string_buffers(texts)
    even: np.ndarray[Any, np.dtype[np.bool_]] = (meanings & (_WHITE_SPACE | _BEYOND_ASCII)) == 0
    if not len(content):
        return even
    spaces = content == _SPACE
    twice = np.flatnonzero(spaces[1:] & spaces[:-1])
    even[np.searchsorted(starts, twice, side="right") - 1] = False
    filled = np.flatnonzero(np.diff(starts))
    even[filled[spaces[starts[filled]] | spaces[starts[filled + 1] - 1]]] = False
    return even


def string_buffers(texts: pa.StringArray) -> tuple[np.ndarray[Any, np.dtype[np.int32]], Bytes]:
    """Returns the offsets of the texts, of shape (texts + 1,), and the bytes of all texts."""
    _, offsets, content = texts.buffers()
    starts = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(content, np.uint8) if content else np.zeros(0, np.uint8)
    return starts - starts[0], data[starts[0] : starts[-1]]


def faults(text: str, meaning: int) -> Iterator[tuple[str, int]]:
    """Yields the names of the checks that a text fails, each with the number of the first character at fault.

    Args:
        text: The text.
        meaning: Its flags, from `meanings`.
    """
    # The encoding comes first: a character that looks like a control character may be one that was read wrongly.
    rightly = text
    if meaning & _BEYOND_ASCII and (hint := _MOJIBAKE_HINT.search(text) or _WINDOWS.search(text)):
        rightly = rightly_read(text)
        if rightly != text:
            yield "mojibake", hint.start()
    if meaning & _MARKUP and (markup := _first_html(text)) is not None:
        yield "html", markup
    if meaning & (_CONTROL | _BEYOND_ASCII) and CONTROL.search(rightly) and (control := CONTROL.search(text)):
        yield "control_characters", control.start()
    if meaning & _BEYOND_ASCII and (lost := text.find(REPLACEMENT)) >= 0:
        yield "replacement_characters", lost


def _first_html(text: str) -> int | None:
    tag = HTML_TAG.search(text)
    entity = next(_entities(text), None)
    places = [found.start() for found in (tag, entity) if found]
    return min(places, default=None)


def _entities(text: str) -> Iterator[re.Match[str]]:
    """Yields the entities that HTML defines; "AT&T;" is none."""
    for found in HTML_ENTITY.finditer(text):
        if found[0].startswith("&#") or found[0][1:] in html5:
            yield found


def rightly_read(text: str) -> str:
    """Returns the text with its encoding repaired, if UTF-8 or Windows-1252 was read as another one."""
    return fix_c1_controls(fix_encoding(text) if is_bad(text) else text)


def without_html(text: str) -> str:
    """Returns the text with spaces for tags, as `<br />` separates words, and characters for entities."""
    return html.unescape(HTML_TAG.sub(" ", text))


def without_control_characters(text: str) -> str:
    """Returns the text without control characters."""
    return CONTROL.sub("", text)


CLEANING = {
    "mojibake": ("fix_encoding", rightly_read),
    "html": ("strip_html", without_html),
    "control_characters": ("strip_control_characters", without_control_characters),
}
"""For a check, the setting that asks for its cleaning step, and the step."""
