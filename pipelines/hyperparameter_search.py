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
from pipelines.tasks import may_log_to_mlflow, may_use_the_store, survives_its_pod

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
    report: dsl.HTML
    verdict: dsl.Markdown


@dsl.pipeline(name="hyperparameter-search")
@with_arguments_of(STAGES, SETTINGS)
def hyperparameter_search(given: dict[str, Any]) -> Outputs:
    """From a dataset and a space of training arguments to a served text classifier."""
    # Neither what a cluster is like nor what serves there is ever taken from a cache.
    checked = preflight(**taken_by(preflight, given)).set_caching_options(False)
    to_beat = champion(**taken_by(champion, given)).after(checked).set_caching_options(False)
    may_use_the_store(to_beat)
    plan = trials(**taken_by(trials, given)).after(to_beat)
    data = transform(**taken_by(transform, given)).after(plan)
    may_use_the_store(data)
    with dsl.ParallelFor(plan.outputs["Output"], name="trials", parallelism=_trials_at_once()) as trial:
        training = train(**taken_by(train, given), dataset=data.outputs["dataset"], trial=trial)
        survives_its_pod(training)
        may_use_the_store(training)
        may_log_to_mlflow(training)
    winner = pick(**taken_by(pick, given), models=dsl.Collected(training.outputs["model"]))
    evaluation = evaluate(
        **taken_by(evaluate, given),
        dataset=data.outputs["dataset"],
        model=winner.outputs["model"],
        champion_source=to_beat.outputs["source"],
        champion_digest=to_beat.outputs["digest"],
    )
    may_use_the_store(evaluation)
    judged = {"metrics": evaluation.outputs["metrics"], "champion": to_beat.outputs["record"]}
    verdict = gate(**taken_by(gate, given) | judged)
    # On a bool, never on a string: kfp.local splices strings into the expression that it evaluates.
    with dsl.If(verdict.outputs["Output"] == True, name="approved"):  # noqa: E712
        # Deploy judges again, so that nobody gets past the gate by this bool.
        deploy(
            **taken_by(deploy, given) | judged,
            model=winner.outputs["model"],
            verdict=verdict.outputs["verdict"],
            approved=verdict.outputs["Output"],
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        ).set_caching_options(False)
    return Outputs(
        dataset=data.outputs["dataset"],
        data_report=data.outputs["report"],
        search=winner.outputs["metrics"],
        search_report=winner.outputs["report"],
        model=winner.outputs["model"],
        metrics=evaluation.outputs["metrics"],
        predictions=evaluation.outputs["predictions"],
        report=evaluation.outputs["report"],
        verdict=verdict.outputs["verdict"],
    )


if __name__ == "__main__":
    from pipelines.cli import main

    main(hyperparameter_search, STAGES)
