"""Ways of writing one name: which are the same, and which only look alike."""

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
# What people put between several labels in one string.
_SEPARATORS = "|;,"


def spelled(value: Any) -> str:
    """A value as a name: without blanks around it, one blank for any white space, characters composed (NFC)."""
    return " ".join(unicodedata.normalize("NFC", str(value)).split())


def whole(name: str) -> str:
    """A whole number without its fraction ("1" for "1.0"); any other name as it is."""
    number = _WHOLE.fullmatch(name)
    return number[1] if number else name


def look(name: str) -> str:
    """What is the same for names that a person would take for one: case, width and what is invisible do not count."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return whole(spelled(visible.casefold()))


def reads_as_none(name: str) -> bool:
    """Whether programs write this where there is no value: nan, null, N/A."""
    return look(name) in _NO_VALUE


def reads_as_list(name: str) -> bool:
    """Whether it is a list that was written out: "['a', 'b']"; "(other)" is none."""
    enclosed = name[:1] + name[-1:]
    return len(name) > 1 and (enclosed == "[]" or (enclosed in ("()", "{}") and "," in name))


def parts(name: str) -> list[str]:
    """What stands between the separators, for the first separator that the name has; none where it has none."""
    separator = next((sign for sign in _SEPARATORS if sign in name), None)
    return [spelled(part) for part in name.split(separator)] if separator else []
