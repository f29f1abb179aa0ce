"""A pipeline's arguments, made of its stages': every setting that some stage takes, once, with its own default."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

from kfp.dsl.base_component import BaseComponent


def with_arguments_of(
    stages: Sequence[BaseComponent], settings: Sequence[type]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a pipeline's function the fields of `settings` that one of `stages` takes, in their order, as arguments.

    The function itself takes them as one dictionary, by name.
    """
    # Of a setting that several stages take, the first one tells what it is.
    taken = {
        name: item.description
        for stage in reversed(stages)
        for name, item in stage.component_spec.inputs.items()
    }
    parameters: dict[str, inspect.Parameter] = {}
    for kind in settings:
        hints, defaults = get_type_hints(kind), kind()
        for name in [field.name for field in dataclasses.fields(kind) if field.name in taken]:
            parameters.setdefault(
                name,
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=getattr(defaults, name),
                    annotation=hints[name],
                ),
            )

    def decorate(function: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def pipeline(*values: Any) -> Any:
            return function(dict(zip(parameters, values, strict=True)))

        returned = inspect.signature(function).return_annotation
        signature = inspect.Signature(list(parameters.values()), return_annotation=returned)
        pipeline.__signature__ = signature  # type: ignore[attr-defined]  # which kfp reads
        told = (f"    {name}: {' '.join((taken[name] or '').split())}" for name in parameters)
        pipeline.__doc__ = "\n".join([f"{function.__doc__}\n\nArgs:", *told])
        return pipeline

    return decorate


def taken_by(stage: BaseComponent, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that the stage takes."""
    return {name: arguments[name] for name in stage.component_spec.inputs if name in arguments}
