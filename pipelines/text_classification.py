"""Defines the pipeline from a dataset and a model name to a served classifier.

preflight -> transform -> train -> compress -> evaluate -> gate -> deploy

miniml --help, or here: python -m pipelines.text_classification --help
"""

from typing import Any, NamedTuple

from kfp import dsl

from components.compress import compress
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.preflight import preflight
from components.train import train
from components.transform import transform
from miniml.settings.arguments import SETTINGS
from miniml.settings.search import SearchSettings
from pipelines.form import pipeline
from pipelines.steps import PipelineRun, approved

ARGUMENTS = tuple(kind for kind in SETTINGS if kind is not SearchSettings)
"""The settings of all stages (miniml/settings), except those of a search."""


class Outputs(NamedTuple):
    """The outputs of the pipeline."""

    dataset: dsl.Dataset
    data_report: dsl.HTML
    model: dsl.Model
    training_metrics: dsl.Metrics
    training_report: dsl.HTML
    compressed: dsl.Model
    compression_report: dsl.HTML
    metrics: dsl.Metrics
    predictions: dsl.Dataset
    confusion_matrix: dsl.ClassificationMetrics
    report: dsl.HTML
    verdict: dsl.Markdown


@pipeline("text-classification", ARGUMENTS)
def text_classification(**arguments: Any) -> Outputs:
    """Makes a served text classifier from a dataset and a model name."""
    run = PipelineRun(arguments)
    found = run.begin(preflight)
    data = run.step(transform)
    training = run.step(train, dataset=data.outputs["dataset"])
    compression = run.step(compress, dataset=data.outputs["dataset"], model=training.outputs["model"])
    evaluation = run.step(
        evaluate,
        dataset=data.outputs["dataset"],
        model=training.outputs["model"],
        compressed=compression.outputs["smaller"],
        champion_source=found.outputs["champion_source"],
        champion_digest=found.outputs["champion_digest"],
    )
    verdict = run.step(gate, metrics=evaluation.outputs["metrics"], champion=found.outputs["record"])
    with approved(verdict):
        # Deploy checks the gate's rules again, so that a bool alone does not pass the gate.
        run.step(
            deploy,
            model=training.outputs["model"],
            compressed=compression.outputs["smaller"],
            metrics=evaluation.outputs["metrics"],
            champion=found.outputs["record"],
            verdict=verdict.outputs["verdict"],
            approved=verdict.outputs["Output"],
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
    return Outputs(
        dataset=data.outputs["dataset"],
        data_report=data.outputs["report"],
        model=training.outputs["model"],
        training_metrics=training.outputs["metrics"],
        training_report=training.outputs["report"],
        compressed=compression.outputs["smaller"],
        compression_report=compression.outputs["report"],
        metrics=evaluation.outputs["metrics"],
        predictions=evaluation.outputs["predictions"],
        confusion_matrix=evaluation.outputs["confusion_matrix"],
        report=evaluation.outputs["report"],
        verdict=verdict.outputs["verdict"],
    )


if __name__ == "__main__":
    from miniml.cli.main import main

    main()
