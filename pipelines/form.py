"""A pipeline's form: which arguments it shows as fields, with their defaults and choices; all others are `options`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import struct_pb2
from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.graph_component import GraphComponent

from miniml.arguments import FIELDS, OPTIONS, Argument, arguments_of
from miniml.settings import CHOICES

Arguments = dict[str, Any]


def pipeline(name: str, settings: tuple[type, ...]) -> Callable[[Callable[[Arguments], Any]], GraphComponent]:
    """Makes a pipeline of a function: its arguments are the fields among `settings`, and `options`.

    The function takes them as one dictionary, by name.
    """
    fields = [argument for name, argument in arguments_of(settings).items() if name in FIELDS]

    def made(function: Callable[[Arguments], Any]) -> GraphComponent:
        component = dsl.pipeline(name=name)(_with_parameters(function, fields))
        assert isinstance(component, GraphComponent)
        _offer_choices(component)
        return component

    return made


def taken_by(stage: BaseComponent, arguments: Mapping[str, Any]) -> Arguments:
    """Those of the arguments that the stage takes."""
    return {name: arguments[name] for name in stage.component_spec.inputs if name in arguments}


def _with_parameters(function: Callable[[Arguments], Any], fields: list[Argument]) -> Callable[..., Any]:
    parameters = [_parameter(field.name, field.kind, field.default) for field in fields]
    parameters.append(_parameter(OPTIONS, dict, {}))

    @functools.wraps(function)
    def called(*values: Any) -> Any:
        return function(dict(zip([each.name for each in parameters], values, strict=True)))

    returned = inspect.signature(function).return_annotation
    # Which kfp reads.
    called.__signature__ = inspect.Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]
    return called


def _parameter(name: str, kind: type, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)


def _offer_choices(component: GraphComponent) -> None:
    """Has the form draw a dropdown, and the API server refuse all else: the SDK compiles no Literal, as of 2.17."""
    parameters = component.component_spec.implementation.graph.root.input_definitions.parameters
    for name in CHOICES.keys() & parameters.keys():
        values = [struct_pb2.Value(string_value=choice) for choice in CHOICES[name]]
        parameters[name].literals.extend(values)
