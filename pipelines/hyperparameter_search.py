"""Defines the pipeline from a dataset and a search space to a served classifier: the best of many, tested once.

preflight -> transform -> train, train, train ... -> pick -> compress -> evaluate -> gate -> deploy

miniml search --help, or here: python -m pipelines.hyperparameter_search --help
"""

import sys
from typing import Any, NamedTuple

from kfp import dsl

from components.compress import compress
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.pick import pick
from components.preflight import preflight
from components.train import train
from components.transform import transform
from miniml.pipeline.build_settings import trials_at_once
from miniml.settings.arguments import SETTINGS
from pipelines.form import pipeline
from pipelines.steps import PipelineRun, approved, narrowed


class Outputs(NamedTuple):
    """The outputs of the pipeline."""

    dataset: dsl.Dataset
    data_report: dsl.HTML
    search: dsl.Metrics
    search_report: dsl.HTML
    model: dsl.Model
    compressed: dsl.Model
    compression_report: dsl.HTML
    metrics: dsl.Metrics
    predictions: dsl.Dataset
    confusion_matrix: dsl.ClassificationMetrics
    report: dsl.HTML
    verdict: dsl.Markdown


@pipeline("hyperparameter-search", SETTINGS)
def hyperparameter_search(**arguments: Any) -> Outputs:
    """Makes a served text classifier from a dataset and a space of training arguments."""
    run = PipelineRun(arguments)
    found = run.begin(preflight, trials_at_once=trials_at_once())
    data = run.step(transform)
    with dsl.ParallelFor(found.outputs["Output"], name="trials", parallelism=trials_at_once()) as trial:
        # A trial includes its arguments and pins: the workflow repeats any other input of a task in a loop for each
        # turn, and kfp.local replaces the outputs of other tasks by the loop's item.
        training = run.step(
            narrowed(train, ("dataset", "trial")), dataset=data.outputs["dataset"], trial=trial
        )
    winner = run.step(pick, models=dsl.Collected(training.outputs["model"]))
    compression = run.step(compress, dataset=data.outputs["dataset"], model=winner.outputs["model"])
    evaluation = run.step(
        evaluate,
        dataset=data.outputs["dataset"],
        model=winner.outputs["model"],
        compressed=compression.outputs["smaller"],
        champion_source=found.outputs["champion_source"],
        champion_digest=found.outputs["champion_digest"],
    )
    verdict = run.step(gate, metrics=evaluation.outputs["metrics"], champion=found.outputs["record"])
    with approved(verdict):
        # Deploy checks the gate's rules again, so that a bool alone does not pass the gate.
        run.step(
            deploy,
            model=winner.outputs["model"],
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
        search=winner.outputs["metrics"],
        search_report=winner.outputs["report"],
        model=winner.outputs["model"],
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

    main(["search", *sys.argv[1:]])
