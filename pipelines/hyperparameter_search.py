"""A dataset and a space of training arguments become a served classifier: the best of many, judged once.

preflight -> transform -> train, train, train ... -> pick -> evaluate -> gate -> deploy

miniml search --help, or here: python -m pipelines.hyperparameter_search --help
"""

import sys
from typing import NamedTuple

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
from pipelines.form import Arguments, narrowed, pipeline
from pipelines.stages import given_to, judged_and_deployed, looked_before, prepared, trained
from pipelines.tasks import SMALL, has, runs_as_nobody

STAGES = (preflight, transform, train, pick, evaluate, gate, deploy)


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
def hyperparameter_search(given: Arguments) -> Outputs:
    """From a dataset and a space of training arguments to a served text classifier."""
    checked = looked_before(given, trials_at_once=trials_at_once())
    data = prepared(given, checked)
    with dsl.ParallelFor(checked.outputs["Output"], name="trials", parallelism=trials_at_once()) as trial:
        # A trial has its arguments and pins with it: whatever else a task in a loop is given, a cluster's record has
        # once more for each turn; and kfp.local gives it the loop's item for any other task's output.
        training = trained(data, given, {"trial": trial}, narrowed(train, ("dataset", "trial")))
    winner = pick(**given_to(pick, given, checked), models=dsl.Collected(training.outputs["model"]))
    runs_as_nobody(winner)
    has(winner, SMALL)
    evaluation, verdict = judged_and_deployed(data, winner.outputs["model"], given, checked)
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
