"""Collects the arguments of a run: some two dozen are fields of a form, the others travel in one struct, `options`.

Each argument is a field of a settings dataclass, with its type (see `miniml.settings.field_types`), its default and, in
the docstring below it, its description. The inputs of components and pipelines and the options of the command line are
made from these fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from numbers import Real
from pathlib import PurePath
from typing import Any, TypeVar

from miniml.errors import InputError
from miniml.escaping import clipped, quoted
from miniml.settings.champion import ChampionSettings
from miniml.settings.compression import CompressionSettings
from miniml.settings.data import DataSettings
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.descriptions import descriptions_of
from miniml.settings.evaluation import EvaluationSettings
from miniml.settings.field_types import field_types
from miniml.settings.gate import GateSettings
from miniml.settings.nodes import NodeSettings
from miniml.settings.search import SearchSettings
from miniml.settings.steps import StepSettings
from miniml.settings.training import TrainingSettings

OPTIONS = "options"
"""The argument that holds all arguments without a form field of their own, by name."""

TAKEN_BY: dict[str, tuple[type, ...]] = {
    "transform": (DataSettings,),
    "pick": (SearchSettings,),
    "train": (TrainingSettings, NodeSettings),
    "compress": (CompressionSettings,),
    "evaluate": (EvaluationSettings,),
    "gate": (GateSettings,),
    "deploy": (GateSettings, DeploymentSettings),
    "preflight": (ChampionSettings, StepSettings),
}
"""The settings that each stage takes, in the order in which they are shown. A stage without settings is left out.

Preflight takes the settings of all stages, passes each stage its own, and takes these two in addition."""
SETTINGS = tuple(dict.fromkeys(kind for kinds in TAKEN_BY.values() for kind in kinds))
"""The settings of all stages that a pipeline may have."""
FIELDS = tuple(
    dict.fromkeys(name for kind in SETTINGS for name, of in field_types(kind).items() if of.in_form)
)
"""The arguments that a form shows; a pipeline that searches nothing leaves out `space` and `trials`."""

WITH_OPTIONS = tuple(
    stage
    for stage, kinds in TAKEN_BY.items()
    if not all(of.in_form for kind in kinds for of in field_types(kind).values())
)
"""The stages that have settings which travel in `options`."""

LONGEST = 4_000
"""The most characters of an argument. Linux allows 128 KiB for one command line argument, which holds all of a
task's arguments."""
_LONGEST = 60
"""The most characters of a wrong value that a message shows."""
_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
_Settings = TypeVar("_Settings")


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a run."""

    name: str
    kind: type
    default: Any
    description: str
    """One sentence, followed by one that lists the choices, if there are any."""
    choices: Sequence[str] = ()
    """The allowed values; empty where any value of the type is allowed."""
    in_form: bool = False
    """Whether the argument is a field of a form; otherwise it travels in `options`."""


@functools.cache
def arguments_of(kinds: tuple[type, ...]) -> dict[str, Argument]:
    """Returns the arguments that these dataclasses define, by name; the first dataclass with a name describes it."""
    found: dict[str, Argument] = {}
    for kind in kinds:
        types, descriptions = field_types(kind), descriptions_of(kind)
        for field in dataclasses.fields(kind):
            of, described = types[field.name], descriptions.get(field.name, "")
            if of.choices:
                described += f" One of {', '.join(of.choices)}."
            found.setdefault(
                field.name, Argument(field.name, of.kind, field.default, described, of.choices, of.in_form)
            )
    return found


def flat(given: Mapping[str, Any], kinds: tuple[type, ...]) -> dict[str, Any]:
    """Returns a stage's settings by name, those in `options` included, each in its type: KFP makes numbers floats.

    Args:
        given: Arguments by name, including `options`. Names that are not settings, such as a stage's artifacts, are
            ignored.
        kinds: The dataclasses whose settings the stage takes.

    Raises:
        InputError: `options` names a setting that the stage does not take, or a value has the wrong type or would not
            reach a stage unchanged; the message names the argument, its value and the remedy.
    """
    known = arguments_of(kinds)
    options = given.get(OPTIONS) or {}
    if not isinstance(options, Mapping):
        raise InputError(
            f'{OPTIONS} is {_written(options)}; it takes an object: {{"weight_decay": 0.01}}, say, or {{}}.'
        )
    for name, value in options.items():
        _require_option(name, value, known)
    fields = {name: value for name, value in given.items() if name in known}
    return {name: _typed(known[name], value) for name, value in {**fields, **options}.items()}


def settings_from(kind: type[_Settings], arguments: Mapping[str, Any]) -> _Settings:
    """Returns settings of the dataclass `kind` with these arguments, and the defaults for those that are not given.

    Raises:
        InputError: A value cannot be used.
    """
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: value for name, value in arguments.items() if name in names})


def settings_given(given: Mapping[str, Any], *kinds: type) -> list[Any]:
    """Returns the settings that a stage was given, one object for each dataclass in `kinds` (see `flat`).

    Raises:
        InputError: `options` names a setting that the stage does not take, or a value cannot be used.
    """
    arguments = flat(given, kinds)
    return [settings_from(kind, arguments) for kind in kinds]


def as_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments as a pipeline takes them: its fields, and `options` with the others that are not default.

    An option that repeats its default would only cause a cache miss.
    """
    fields = {name: value for name, value in arguments.items() if name in FIELDS}
    return {**fields, OPTIONS: options_among(arguments, arguments)}


def options_among(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Returns those of `names` that travel in `options` and whose value differs from the default."""
    return changed(arguments, [name for name in names if name not in FIELDS])


def changed(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Returns those of `names` whose value differs from the default."""
    known = arguments_of(SETTINGS)
    return {
        name: arguments[name]
        for name in names
        if name in arguments and arguments[name] != known[name].default
    }


def _require_option(name: str, value: Any, known: Mapping[str, Argument]) -> None:
    if name in known and known[name].in_form:
        raise InputError(
            f"options names {name!r} ({_written(value)}), which has a field of its own. Give it there."
        )
    if name not in known:
        names = [other for other, argument in known.items() if not argument.in_form]
        near = next(iter(difflib.get_close_matches(name, known, n=1)), "")
        remedy = f"Did you mean {near!r}?" if near else f"There are: {', '.join(names) or 'none'}."
        if near and known[near].in_form:
            remedy += " That has a field of its own."
        raise InputError(f"options names {quoted(name)} ({_written(value)}), which is none of them. {remedy}")


def _typed(argument: Argument, value: Any) -> Any:
    value = _of_python(value)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and argument.kind is float:
        with suppress(OverflowError):
            return float(value)
    # Infinity and NaN are not whole numbers.
    if is_number and argument.kind is int and abs(value) < float("inf") and value == int(value):
        return int(value)
    if argument.kind in (str, bool) and isinstance(value, argument.kind):
        if isinstance(value, str):
            _require_plain(argument.name, value)
        return value
    raise InputError(f"{argument.name} is {_written(value)}; it takes {_WORDS[argument.kind]}.")


def _of_python(value: Any) -> Any:
    """Returns the Python value of a scalar of NumPy or torch, the string of a path, and anything else as it is."""
    if isinstance(value, PurePath):
        return str(value)
    return value.item() if getattr(value, "shape", None) == () else value


def _require_plain(name: str, value: str) -> None:
    """Refuses what would not reach a stage as it is: KFP splices arguments into a command line, unescaped."""
    if "{{" in value:
        raise InputError(
            f"{name} {quoted(value)} holds {quoted('{{')}, which Kubeflow Pipelines takes for a placeholder and "
            f"replaces. Write it without."
        )
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{name} {quoted(value)} holds NUL or half a character. Write it without.")
    if len(value) > LONGEST:
        raise InputError(f"{name} has {len(value):,} characters; at most {LONGEST:,} are passed on.")


def _written(value: Any) -> str:
    """Returns the value as JSON, as a person writes it, cut to the length that a message shows."""
    return clipped(json.dumps(value, ensure_ascii=False, default=repr), _LONGEST)
