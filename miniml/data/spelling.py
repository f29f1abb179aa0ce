"""Normalises the spellings of names, and finds names that only look alike."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_WHOLE = re.compile(r"([-+]?\d+)\.0+")
_NO_VALUE = frozenset(
    (
        "nan",
        "null",
        "none",
        "nil",
        "n/a",
        "na",
        "<na>",
        "#n/a",
        "nat",
        "undefined",
        "missing",
        "-",
        "--",
        "?",
        ".",
    )
)
# Characters that people write between several labels in one string.
_SEPARATORS = "|;,"


def spelled(value: Any) -> str:
    """Returns a value as a name: in NFC, stripped, and with single spaces."""
    return " ".join(unicodedata.normalize("NFC", str(value)).split())


def whole(name: str) -> str:
    """Returns a whole number without its fraction ("1" for "1.0"), and any other name unchanged."""
    number = _WHOLE.fullmatch(name)
    return number[1] if number else name


def lookalike_key(name: str) -> str:
    """Returns a key that is the same for names that look alike: without case, width and invisible characters."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return whole(spelled(visible.casefold()))


def reads_as_none(name: str) -> bool:
    """Tells whether programs write this name for a missing value, such as nan, null or N/A."""
    return lookalike_key(name) in _NO_VALUE


def reads_as_list(name: str) -> bool:
    """Tells whether the name is a list in one string, such as "['a', 'b']", but not "(other)"."""
    enclosed = name[:1] + name[-1:]
    return len(name) > 1 and (enclosed == "[]" or (enclosed in ("()", "{}") and "," in name))


def parts(name: str) -> list[str]:
    """Returns the parts of the name between separators, of which the first kind that it has counts; [] without any."""
    separator = next((sign for sign in _SEPARATORS if sign in name), None)
    return [spelled(part) for part in name.split(separator)] if separator else []
