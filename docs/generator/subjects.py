"""What the reference describes: the one place that names the project's parsers, components, settings and functions."""

from __future__ import annotations

import argparse
from pathlib import Path

from miniml import arguments, settings
from miniml.arguments import Argument
from pipelines import cli, description, hyperparameter_search, text_classification

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "pipelines" / "compiled"
"""Holds a YAML file for each pipeline, and in the folder `components` one for each component."""

FIELDS = arguments.FIELDS
"""The arguments that a pipeline's form shows; the others go into its argument `options`."""
CHOICES = settings.CHOICES
"""The values of the arguments that take one of a few words."""
STAGES = {stage: arguments.arguments_of(kinds) for stage, kinds in description.STAGES.items()}
"""The arguments of a pipeline by name, under the stage where a person looks for them."""

API = (
    "miniml.data.preparation.prepare",
    "miniml.training.fine_tune",
    "miniml.training.TrainingResult",
    "miniml.evaluation.evaluate_model",
    "miniml.gate.judge",
    "miniml.gate.Verdict",
    "miniml.classifier.Classifier",
    "miniml.predictions.Predictions",
    "pipelines.sdk",
    "miniml.settings",
)
"""The public modules, classes and functions, by their dotted names."""


def parsers() -> list[argparse.ArgumentParser]:
    """Returns the parser of every program, in the order of the reference."""
    from miniml.store import __main__ as store
    from miniml.training import __main__ as training
    from serving import options

    return [
        cli._parser(text_classification.text_classification, text_classification.STAGES),
        cli._parser(hyperparameter_search.hyperparameter_search, hyperparameter_search.STAGES),
        store._parser(),
        training._parser(),
        options.parser(),
    ]


def options_of(component: str) -> dict[str, Argument]:
    """Returns what a component takes by name in its input `options`.

    Args:
        component: The component's name.
    """
    kinds = arguments.TAKEN_BY.get(component, ())
    return {name: each for name, each in arguments.arguments_of(kinds).items() if name not in FIELDS}
