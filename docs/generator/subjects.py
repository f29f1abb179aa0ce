"""What the reference describes: the one place that names the project's parsers, components, settings and functions."""

from __future__ import annotations

import argparse
from pathlib import Path

from miniml.cli import main
from miniml.settings import arguments
from miniml.settings.arguments import Argument

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "pipelines" / "compiled"
"""Holds a YAML file for each pipeline, and in the folder `components` one for each component."""

FIELDS = arguments.FIELDS
"""The arguments that a pipeline's form shows; the others go into its argument `options`."""
STAGES = {stage: arguments.arguments_of(kinds) for stage, kinds in arguments.TAKEN_BY.items()}
"""The arguments of a pipeline by name, under the stage where a person looks for them."""

API = (
    "miniml.api",
    "miniml.data.preparation.prepare",
    "miniml.training.fine_tune.fine_tune",
    "miniml.training.fine_tune.TrainingResult",
    "miniml.compression.compress.compress",
    "miniml.compression.outcome.Selection",
    "miniml.compression.outcome.MeasuredModel",
    "miniml.evaluation.evaluate.evaluate_model",
    "miniml.evaluation.smaller_model.SmallerModel",
    "miniml.gate.rules.judge",
    "miniml.gate.rules.Verdict",
    "miniml.model.classifier.Classifier",
    "miniml.task.Prediction",
    "miniml.tasks.single_label.task.SingleLabelPrediction",
    "miniml.tasks.multi_label.task.MultiLabelPrediction",
    "miniml.tasks.regression.task.RegressionPrediction",
    "miniml.evaluation.predictions.Predictions",
    "miniml.sdk",
    *(f"{kind.__module__}.{kind.__qualname__}" for kind in arguments.SETTINGS),
)
"""The public modules, classes and functions, by their dotted names."""


def parsers() -> list[argparse.ArgumentParser]:
    """Returns the parser of every program, in the order of the reference."""
    from miniml.compression import __main__ as compression
    from miniml.train_step import __main__ as training
    from serving import options

    return [
        main.command_line(),
        training.command_line(),
        compression.command_line(),
        options.parser(),
    ]


def options_of(component: str) -> dict[str, Argument]:
    """Returns what a component takes by name in its input `options`.

    Args:
        component: The component's name.
    """
    kinds = arguments.TAKEN_BY.get(component, ())
    return {name: each for name, each in arguments.arguments_of(kinds).items() if name not in FIELDS}
