"""A dataset and a space of training arguments become a served classifier: the best of many, judged once.

preflight -> champion -> trials -> transform -> train, train, train ... -> pick -> evaluate -> gate -> deploy

python -m pipelines.hyperparameter_search --help
"""

import os
from typing import Any, NamedTuple

from kfp import dsl

from components.champion import champion
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.pick import pick
from components.preflight import preflight
from components.train import train
from components.transform import transform
from components.trials import trials
from miniml.errors import InputError
from pipelines.arguments import SETTINGS
from pipelines.stage_arguments import taken_by, with_arguments_of
from pipelines.stages import (
    champion_to_beat,
    dataset_after,
    judged_and_deployed,
    trained,
    with_sources_pinned,
)

STAGES = (preflight, champion, trials, transform, train, pick, evaluate, gate, deploy)
TRIALS_AT_ONCE = "MINIML_TRIALS_AT_ONCE"
"""The environment's say, when the pipeline is compiled, in how many trials train beside each other. One by default, for
on one machine they would slow each other."""


def _trials_at_once() -> int:
    said = os.environ.get(TRIALS_AT_ONCE, "1")
    if not said.isdecimal() or int(said) < 1:
        raise InputError(f"{TRIALS_AT_ONCE} is {said!r}; it is a number of trials, of 1 or more.")
    return int(said)


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


@dsl.pipeline(name="hyperparameter-search")
@with_arguments_of(STAGES, SETTINGS)
def hyperparameter_search(given: dict[str, Any]) -> Outputs:
    """From a dataset and a space of training arguments to a served text classifier."""
    checked, given = with_sources_pinned(given)
    to_beat = champion_to_beat(checked, given)
    plan = trials(**taken_by(trials, given), at_once=_trials_at_once()).after(to_beat)
    data = dataset_after(plan, given)
    with dsl.ParallelFor(plan.outputs["Output"], name="trials", parallelism=_trials_at_once()) as trial:
        # The plan hands them on: to a task in a loop, kfp.local gives the loop's item for any other task's output.
        training = trained(data, given | {"pins": ""}, trial=trial)
    winner = pick(**taken_by(pick, given), models=dsl.Collected(training.outputs["model"]))
    evaluation, verdict = judged_and_deployed(data, winner.outputs["model"], to_beat, given)
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
    from pipelines.cli import main

    main(hyperparameter_search, STAGES)
