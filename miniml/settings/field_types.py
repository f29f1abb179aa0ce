"""What the type of a settings dataclass's field says of the argument that it is.

schedule: Literal["linear", "cosine", "constant"] = "linear"    one of a few words
batch_size: FormField[int] = 2                                  a field of a pipeline's form
dropout: float = 0.0                                            travels in `options`
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_IN_FORM = "a field of the form"
FormField = Annotated[_T, _IN_FORM]
"""The type of an argument that a pipeline's form shows as a field; every other one travels in `options`.

Kubeflow Pipelines writes a step's inputs into the cluster's record of a run several times, and draws every one of them:
so only those that people change are fields.
"""


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Says in `Annotated[str, OneOf(...)]` what a `Literal` cannot: words that are known only when the code runs."""

    words: Sequence[str]
    """It is kept, not copied: where others may add words, it may be a sequence that has them from then on."""


@dataclasses.dataclass(frozen=True)
class FieldType:
    """The type of a settings dataclass's field."""

    kind: type
    """int, float, str or bool."""
    choices: Sequence[str]
    """The words that a string is one of; empty where it may be any."""
    in_form: bool
    """Whether a pipeline's form shows it as a field."""


@functools.cache
def field_types(settings: type) -> Mapping[str, FieldType]:
    """Reads the types of all fields of the dataclass `settings`, by name, in their order."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: _read(hints[field.name]) for field in dataclasses.fields(settings)}


def _read(hint: Any) -> FieldType:
    plain, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    choices: Sequence[str] = next((mark.words for mark in marks if isinstance(mark, OneOf)), ())
    if get_origin(plain) is Literal:
        plain, choices = str, get_args(plain)
    return FieldType(plain, choices, _IN_FORM in marks)
