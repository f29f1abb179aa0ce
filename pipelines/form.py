"""Defines the decorator that makes a pipeline from a function and from the settings that are its arguments."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from google.protobuf import struct_pb2
from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.graph_component import GraphComponent

from components.stage import with_settings
from miniml.pipeline.description import arguments_table
from miniml.settings.arguments import arguments_of

_RESOURCES = {"cpu_limit", "memory_request", "memory_limit", "accelerator_count"}


def pipeline(name: str, settings: tuple[type, ...]) -> Callable[[Callable[..., Any]], GraphComponent]:
    """Makes a pipeline from a function, which calls the stages.

    Args:
        name: The pipeline's name in Kubeflow Pipelines.
        settings: The dataclasses whose fields are the pipeline's arguments, with their types, defaults, choices and
            descriptions: the fields of a form by their own names, and all others in `options`. The function receives
            them as `**arguments`.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> GraphComponent:
        component = dsl.pipeline(name=name)(_called_by_position(function, settings))
        assert isinstance(component, GraphComponent)
        _offer_choices(component, settings)
        _describe(component, arguments_table(arguments_of(settings)))
        _leave_out_descriptions(component)
        _leave_out_copies_of_resources(component)
        return component

    return decorate


def stages_of(pipeline: GraphComponent) -> tuple[BaseComponent, ...]:
    """Returns the components of a pipeline: those that its module imports or defines."""
    module = sys.modules[pipeline.pipeline_func.__module__]
    return tuple(
        each
        for each in vars(module).values()
        if isinstance(each, BaseComponent) and not isinstance(each, GraphComponent)
    )


def _called_by_position(function: Callable[..., Any], settings: tuple[type, ...]) -> Callable[..., Any]:
    """Returns the function as kfp calls it: with positional arguments, in the order of the signature."""
    signature = with_settings(inspect.signature(function), settings)

    @functools.wraps(function)
    def called(*values: Any) -> Any:
        return function(**dict(zip(signature.parameters, values, strict=True)))

    called.__signature__ = signature  # type: ignore[attr-defined]
    return called


def _offer_choices(component: GraphComponent, settings: tuple[type, ...]) -> None:
    """Adds the choices of arguments: the form shows a dropdown, and the API server refuses other values.

    The SDK does not compile a Literal, as of 2.17.
    """
    parameters = component.component_spec.implementation.graph.root.input_definitions.parameters
    for argument in arguments_of(settings).values():
        if argument.in_form:
            values = [struct_pb2.Value(string_value=choice) for choice in argument.choices]
            parameters[argument.name].literals.extend(values)


def _describe(component: GraphComponent, arguments: str) -> None:
    """Adds the arguments to the pipeline's description, below its sentence, which the command line shows alone."""
    info = component.component_spec.implementation.graph.pipeline_info
    info.description = f"{component.description}\n\n{arguments}"


def _leave_out_descriptions(component: GraphComponent) -> None:
    """Removes the descriptions of the components' inputs and outputs from the pipeline.

    They are shown nowhere, and a cluster's record of a run has them eight times a task. The components' own files keep
    them.
    """
    for each in component.component_spec.implementation.graph.components.values():
        for definitions in (each.input_definitions, each.output_definitions):
            for described in (*definitions.parameters.values(), *definitions.artifacts.values()):
                described.ClearField("description")


def _leave_out_copies_of_resources(component: GraphComponent) -> None:
    """Removes inputs that the SDK adds to a task as copies of the arguments with its resources.

    Nothing reads them (kubeflow/pipelines 2.17.0, backend/src/v2/driver/driver.go, getPodResource).
    """
    graph = component.component_spec.implementation.graph
    for dag in (graph.root.dag, *(each.dag for each in graph.components.values())):
        for task in dag.tasks.values():
            for name in _RESOURCES & task.inputs.parameters.keys():
                del task.inputs.parameters[name]
