"""Reads the space of a search: values of training arguments, as a person types them.

{"learning_rate": {"low": 1e-5, "high": 1e-4, "log": true}, "batch_size": [16, 32], "dropout": [0, 0.1]}
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from random import Random
from typing import Any

from miniml.errors import InputError
from miniml.escaping import clipped
from miniml.settings.field_types import field_types
from miniml.settings.training import TrainingSettings

Value = int | float | str | bool

EXAMPLE = '{"learning_rate": {"low": 1e-5, "high": 1e-4, "log": true}, "batch_size": [16, 32]}'

KINDS = {name: of.kind for name, of in field_types(TrainingSettings).items()}
"""The type of every argument of the training, by name."""


@dataclass(frozen=True)
class Choices:
    """A list of values to try."""

    values: tuple[Value, ...]

    def draw(self, random: Random) -> Value:
        """Returns one of the values, each with the same probability."""
        return self.values[int(random.random() * len(self.values))]


@dataclass(frozen=True)
class Range:
    """A range of numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool
    """Whether logarithms are drawn uniformly: as often between 1e-5 and 1e-4 as between 1e-4 and 1e-3."""
    whole: bool
    """Whether only whole numbers are drawn."""

    def draw(self, random: Random) -> Value:
        """Returns a number of the range, uniformly or log-uniformly distributed, rounded to three digits."""
        # One is added so that the highest whole number is as likely as the others.
        low, high, share = self.low, self.high + self.whole, random.random()
        value = low * (high / low) ** share if self.log else low + (high - low) * share
        if self.whole:
            return min(math.floor(value), int(self.high))
        # Three digits can be read and typed again, and a fourth makes no difference to a training.
        return min(max(float(f"{value:.3g}"), self.low), self.high)


Space = dict[str, Choices | Range]


def parse(text: str) -> Space:
    """Returns the search space that `text` describes, with the arguments in the same order.

    Raises:
        InputError: The text is not such JSON, or names an argument or a value that the training does not take.
    """
    try:
        entries = json.loads(text, object_pairs_hook=_without_repetition)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"space {_clipped(text)} is no JSON ({error}). Write it as {EXAMPLE}.") from error
    if not isinstance(entries, dict) or not entries:
        raise InputError(f"space {_clipped(text)} names nothing to search. Write it as {EXAMPLE}.")
    return {name: _entry(name, entry) for name, entry in entries.items()}


def models_of(space: str) -> list[str]:
    """Returns the models that a search's space names; an empty list where the space is empty or names none.

    Raises:
        InputError: The space cannot be read (see `parse`).
    """
    named = parse(space).get("model_id") if space else None
    return [str(value) for value in named.values] if isinstance(named, Choices) else []


def _clipped(text: str) -> str:
    return repr(clipped(text, 120))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses repeated names, of which JSON would silently keep the last."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"space names {twice!r} twice. Leave one of the two out.")
    return entries


def _entry(name: str, entry: Any) -> Choices | Range:
    require_argument(name)
    if isinstance(entry, list) and entry:
        return Choices(tuple(value_of(name, value) for value in entry))
    if isinstance(entry, dict):
        return _range(name, entry)
    raise InputError(
        f"space gives {name} as {json.dumps(entry)}; it must be a list of at least one value, or a range: "
        f'{{"low": 1, "high": 8}}.'
    )


def _range(name: str, entry: dict[str, Any]) -> Range:
    if unknown := sorted(entry.keys() - {"low", "high", "log"}):
        raise InputError(f"space gives {name} a {unknown[0]!r}; a range has low, high and log.")
    if missing := sorted({"low", "high"} - entry.keys()):
        raise InputError(f"space gives {name} a range without {missing[0]!r}. Add it.")
    if KINDS[name] not in (int, float):
        raise InputError(f"space gives {name} a range, but its values are no numbers. Give a list of them.")
    low, high = (value_of(name, entry[end]) for end in ("low", "high"))
    log = entry.get("log", False)
    assert not isinstance(low, str) and not isinstance(high, str)
    if not isinstance(log, bool):
        raise InputError(f"space gives {name} log {json.dumps(log)}; it is true or false.")
    if low > high:
        raise InputError(f"space gives {name} low {low:g}, above its high {high:g}. Swap them.")
    if log and low <= 0:
        raise InputError(
            f"space gives {name} low {low:g} and log: a logarithm needs it above 0. Raise it, or leave log out."
        )
    return Range(low, high, log, whole=KINDS[name] is int)


def require_argument(name: str) -> None:
    """Refuses a name that is not an argument of the training.

    Raises:
        InputError: The training has no such argument.
    """
    if name not in KINDS:
        raise InputError(
            f"space names {name!r}, which is no argument of the training. It may name: {', '.join(KINDS)}."
        )


def value_of(name: str, value: Any) -> Value:
    """Returns the value in its argument's type: JSON may have 0 for 0.0, or 16.0 for 16.

    Raises:
        InputError: The training has no such argument, or does not take such a value.
    """
    require_argument(name)
    kind = KINDS[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and abs(value) < 1e300:  # neither infinite, nor NaN, nor too large for a float
        if kind is float:
            return float(value)
        if kind is int and value == int(value):
            return int(value)
    elif kind in (str, bool) and isinstance(value, kind):
        return value
    raise InputError(f"space gives {name} the value {json.dumps(value)}; it takes {_WORDS[kind]}.")


_WORDS = {int: "whole numbers", float: "numbers", str: "strings", bool: "true and false"}
