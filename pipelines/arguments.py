"""The pipeline's arguments on a command line: its own, with its own defaults, and the named sets of them."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from kfp.dsl.graph_component import GraphComponent

from miniml.settings import (
    DataSettings,
    DeploymentSettings,
    EvaluationSettings,
    GateSettings,
    TrainingSettings,
)
from miniml.sources import locate
from pipelines.presets import PRESETS

_TYPES = {"Integer": int, "Float": float, "String": str}


def add_arguments(parser: argparse.ArgumentParser, pipeline: GraphComponent) -> None:
    """Makes every argument of the pipeline an option."""
    parser.add_argument("--preset", choices=sorted(PRESETS), help="a named set of arguments to start from")
    for name, specification in pipeline.component_spec.inputs.items():
        option = "--" + name.replace("_", "-")
        if specification.type == "Boolean":
            parser.add_argument(option, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(option, type=_TYPES[specification.type], metavar=repr(specification.default))


def arguments_of(pipeline: GraphComponent, options: argparse.Namespace) -> dict[str, Any]:
    """The pipeline's defaults, under the preset's, under what the command line says."""
    given = {name: value for name in defaults(pipeline) if (value := getattr(options, name)) is not None}
    preset = PRESETS[options.preset].arguments if options.preset else {}
    return {**defaults(pipeline), **preset, **given}


def defaults(pipeline: GraphComponent) -> dict[str, Any]:
    return {name: item.default for name, item in pipeline.component_spec.inputs.items()}


def check_values(arguments: dict[str, Any]) -> None:
    """Refuses arguments that some stage would refuse, before the first one starts.

    Raises:
        InputError: the message names the argument, its value and the remedy.
    """
    for settings in (DataSettings, TrainingSettings, EvaluationSettings, GateSettings, DeploymentSettings):
        names = {field.name for field in dataclasses.fields(settings)}
        settings(**{name: value for name, value in arguments.items() if name in names})


def check_sources(arguments: dict[str, Any]) -> None:
    """Refuses a dataset or a model that is not where a stage on this machine would look for it.

    Raises:
        InputError: it says where it was looked for.
    """
    for argument in ("dataset_id", "model_id"):
        locate(argument, arguments[argument])
