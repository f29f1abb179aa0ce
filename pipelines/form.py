"""A pipeline's form: which arguments it shows as fields, with their defaults and choices; all others are `options`."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.protobuf import struct_pb2
from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.graph_component import GraphComponent

from miniml.pipeline.description import table
from miniml.settings.arguments import FIELDS, OPTIONS, Argument, arguments_of
from miniml.settings.choices import CHOICES

Arguments = dict[str, Any]
_RESOURCES = {"cpu_limit", "memory_request", "memory_limit", "accelerator_count"}


def pipeline(name: str, settings: tuple[type, ...]) -> Callable[[Callable[[Arguments], Any]], GraphComponent]:
    """Makes a pipeline of a function: its arguments are the fields among `settings`, and `options`.

    The function takes them as one dictionary, by name.
    """
    arguments = arguments_of(settings)
    fields = [argument for name, argument in arguments.items() if name in FIELDS]

    def made(function: Callable[[Arguments], Any]) -> GraphComponent:
        component = dsl.pipeline(name=name)(_with_parameters(function, fields))
        assert isinstance(component, GraphComponent)
        _offer_choices(component)
        _describe(component, table(arguments))
        _leave_out_descriptions(component)
        _leave_out_copies_of_resources(component)
        return component

    return made


def taken_by(stage: BaseComponent, arguments: Mapping[str, Any]) -> Arguments:
    """Those of the arguments that the stage takes."""
    return {name: arguments[name] for name in stage.component_spec.inputs if name in arguments}


def narrowed(stage: BaseComponent, inputs: Collection[str]) -> BaseComponent:
    """The stage with these inputs alone; for the others its source has the defaults.

    For a loop: of each turn a cluster's record has all inputs of its tasks, eight times.
    """
    narrow = copy.deepcopy(stage)
    for name in narrow.component_spec.inputs.keys() - set(inputs):
        del narrow.component_spec.inputs[name]
    return narrow


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


def _describe(component: GraphComponent, arguments: str) -> None:
    """Tells of the arguments below the pipeline's own sentence, which is all that a command line says of it."""
    info = component.component_spec.implementation.graph.pipeline_info
    info.description = f"{component.description}\n\n{arguments}"


def _leave_out_descriptions(component: GraphComponent) -> None:
    """Nobody is shown those of the components' inputs and outputs, which a cluster's record has eight times a task.

    The components' own files keep them.
    """
    for each in component.component_spec.implementation.graph.components.values():
        for definitions in (each.input_definitions, each.output_definitions):
            for described in (*definitions.parameters.values(), *definitions.artifacts.values()):
                described.ClearField("description")


def _leave_out_copies_of_resources(component: GraphComponent) -> None:
    """The SDK gives a task, beside the arguments that its resources are read from, their placeholders as inputs.

    Nothing reads those (kubeflow/pipelines 2.17.0, backend/src/v2/driver/driver.go, getPodResource).
    """
    graph = component.component_spec.implementation.graph
    for dag in (graph.root.dag, *(each.dag for each in graph.components.values())):
        for task in dag.tasks.values():
            for name in _RESOURCES & task.inputs.parameters.keys():
                del task.inputs.parameters[name]
