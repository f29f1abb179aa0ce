"""Reads from the type of a settings dataclass's field what kind of argument it is.

schedule: Literal["linear", "cosine", "constant"] = "linear"    one of a few words
batch_size: FormField[int] = 2                                  a field of a pipeline's form
dropout: float = 0.0                                            travels in `options`
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints, overload

_T = TypeVar("_T")
_IN_FORM = "a field of the form"
FormField = Annotated[_T, _IN_FORM]
"""The type of an argument that a pipeline's form shows as a field; all others travel in `options`.

Kubeflow Pipelines stores a step's inputs several times in a run's workflow, and shows each of them: so only arguments
that people often change are fields.
"""


class RegisteredChoices(Sequence[str]):
    """Choices that are looked up whenever they are read, so that those that are registered later count too."""

    def __init__(self, names: Callable[[], tuple[str, ...]]) -> None:
        """`names` returns the present choices."""
        self._names = names

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._names()[index]

    def __len__(self) -> int:
        return len(self._names())


@dataclasses.dataclass(frozen=True)
class OneOf:
    """The choices of an `Annotated[str, OneOf(...)]`, where a `Literal` will not do: they are known only at runtime."""

    words: Sequence[str]
    """The allowed values, such as `RegisteredChoices`."""


@dataclasses.dataclass(frozen=True)
class FieldType:
    """The type of a settings dataclass's field."""

    kind: type
    """int, float, str or bool."""
    choices: Sequence[str]
    """The allowed values of a string; empty where any is allowed."""
    in_form: bool
    """Whether a pipeline's form shows the argument as a field."""


@functools.cache
def field_types(settings: type) -> Mapping[str, FieldType]:
    """Returns the types of all fields of the dataclass `settings`, by name, in the order of the fields."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: _read(hints[field.name]) for field in dataclasses.fields(settings)}


def _read(hint: Any) -> FieldType:
    plain, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    choices: Sequence[str] = next((mark.words for mark in marks if isinstance(mark, OneOf)), ())
    if get_origin(plain) is Literal:
        plain, choices = str, get_args(plain)
    return FieldType(plain, choices, _IN_FORM in marks)
