"""Reads a pipeline's arguments from a command line, with the pipeline's defaults and presets, and checks them."""

from __future__ import annotations

import argparse
from typing import Any

from miniml.pipeline.compiled import CompiledPipeline
from miniml.pipeline.description import by_stage
from miniml.pipeline.presets import PRESETS, Preset
from miniml.settings.arguments import SETTINGS, Argument, arguments_of, flat, settings_from
from miniml.settings.champion import NO_CHAMPION, SERVED
from miniml.settings.command_line import add_option
from miniml.settings.search import SearchSettings, Trial
from miniml.settings.steps import StepSettings
from miniml.settings.training import TrainingSettings
from miniml.sources.address import locate


def add_arguments(parser: argparse.ArgumentParser, pipeline: CompiledPipeline) -> None:
    """Adds an option to `parser` for each argument of the pipeline, in a group for each stage."""
    parser.add_argument(
        "--preset",
        choices=sorted(presets_of(pipeline)),
        default=argparse.SUPPRESS,
        help="a named set of arguments to start from",
    )
    for stage, arguments in by_stage(taken_by(pipeline)).items():
        group = parser.add_argument_group(f"arguments of {stage}")
        for argument in arguments:
            add_option(group, argument, argparse.SUPPRESS)


def given_arguments(pipeline: CompiledPipeline, options: argparse.Namespace) -> dict[str, Any]:
    """Returns all arguments by name: those of the command line, else those of the preset, else the defaults."""
    given = {
        name: value for name in defaults(pipeline) if (value := getattr(options, name, None)) is not None
    }
    preset = preset_of(options)
    return {**defaults(pipeline), **(PRESETS[preset].arguments if preset else {}), **given}


def preset_of(options: argparse.Namespace) -> str:
    """Returns the name of the preset to start from; empty for none."""
    named: str = getattr(options, "preset", "")
    # The default preset fits its own dataset only: its columns, labels and row filter.
    return named if named or hasattr(options, "dataset_id") else getattr(options, "default_preset", "")


def taken_by(pipeline: CompiledPipeline) -> dict[str, Argument]:
    """Returns all arguments of the pipeline by name: the fields of its form, and its options."""
    searches = "space" in pipeline.inputs
    return arguments_of(tuple(kind for kind in SETTINGS if searches or kind is not SearchSettings))


def defaults(pipeline: CompiledPipeline) -> dict[str, Any]:
    """Returns the defaults of all arguments of the pipeline, by name."""
    return {name: argument.default for name, argument in taken_by(pipeline).items()}


def presets_of(pipeline: CompiledPipeline) -> dict[str, Preset]:
    """Returns the presets that have only arguments of the pipeline, by name."""
    return {
        name: preset
        for name, preset in PRESETS.items()
        if preset.arguments.keys() <= defaults(pipeline).keys()
    }


def sources_of(arguments: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the sources that the arguments name: the dataset, the models, and the champion if there is one.

    Returns:
        Pairs of an argument's name and a source.
    """
    models = [
        arguments["model_id"],
        *(trial["model_id"] for trial in trials_of(arguments) if "model_id" in trial),
    ]
    sources = [
        ("dataset_id", arguments["dataset_id"]),
        *(("model_id", model) for model in dict.fromkeys(models)),
    ]
    if arguments["champion"] not in (SERVED, NO_CHAMPION):
        sources.append(("champion", arguments["champion"]))
    return sources


def trials_of(arguments: dict[str, Any]) -> list[Trial]:
    """Returns the trials of a search; none for a pipeline that does not search.

    Raises:
        InputError: The search space or the number of trials cannot be used.
    """
    if "space" not in arguments:
        return []
    return settings_from(SearchSettings, arguments).plan(settings_from(TrainingSettings, arguments))


def check_values(arguments: dict[str, Any]) -> None:
    """Checks all arguments before the first stage starts, as the stages themselves will.

    Raises:
        InputError: A value cannot be used; the message names the argument, its value and the remedy.
    """
    typed = flat(arguments, SETTINGS)
    for settings in SETTINGS:
        settings_from(settings, typed)
    settings_from(StepSettings, typed).require_use_of_gpus(settings_from(TrainingSettings, typed))
    trials_of(arguments)


def check_sources(arguments: dict[str, Any]) -> None:
    """Checks that a stage on this machine will find the dataset and the models.

    Raises:
        InputError: A source was not found; the message says where it was looked for.
    """
    for argument, source in sources_of(arguments):
        locate(argument, source)
