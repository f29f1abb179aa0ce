"""A dataset and a space of training arguments become a served classifier: the best of many, judged once.

preflight -> transform -> train, train, train ... -> pick -> evaluate -> gate -> deploy

miniml search --help, or here: python -m pipelines.hyperparameter_search --help
"""

import sys
from typing import Any, NamedTuple

from kfp import dsl

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
from pipelines.steps import Run, approved, narrowed


class Outputs(NamedTuple):
    dataset: dsl.Dataset
    data_report: dsl.HTML
    search: dsl.Metrics
    search_report: dsl.HTML
    model: dsl.Model
    metrics: dsl.Metrics
    predictions: dsl.Dataset
    confusion_matrix: dsl.ClassificationMetrics
    report: dsl.HTML
    verdict: dsl.Markdown


@pipeline("hyperparameter-search", SETTINGS)
def hyperparameter_search(**arguments: Any) -> Outputs:
    """From a dataset and a space of training arguments to a served text classifier."""
    run = Run(arguments)
    found = run.begin(preflight, trials_at_once=trials_at_once())
    data = run.step(transform)
    with dsl.ParallelFor(found.outputs["Output"], name="trials", parallelism=trials_at_once()) as trial:
        # A trial has its arguments and pins with it: whatever else a task in a loop is given, a cluster's record has
        # once more for each turn; and kfp.local gives it the loop's item for any other task's output.
        training = run.step(
            narrowed(train, ("dataset", "trial")), dataset=data.outputs["dataset"], trial=trial
        )
    winner = run.step(pick, models=dsl.Collected(training.outputs["model"]))
    evaluation = run.step(
        evaluate,
        dataset=data.outputs["dataset"],
        model=winner.outputs["model"],
        champion_source=found.outputs["champion_source"],
        champion_digest=found.outputs["champion_digest"],
    )
    verdict = run.step(gate, metrics=evaluation.outputs["metrics"], champion=found.outputs["record"])
    with approved(verdict):
        # It judges again, so that nobody gets past the gate by a bool.
        run.step(
            deploy,
            model=winner.outputs["model"],
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
        metrics=evaluation.outputs["metrics"],
        predictions=evaluation.outputs["predictions"],
        confusion_matrix=evaluation.outputs["confusion_matrix"],
        report=evaluation.outputs["report"],
        verdict=verdict.outputs["verdict"],
    )


if __name__ == "__main__":
    from miniml.cli.main import main

    main(["search", *sys.argv[1:]])
