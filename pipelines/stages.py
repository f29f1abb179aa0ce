"""The stages that our pipelines share, each with what it takes of the pipeline's arguments and of a cluster."""

from __future__ import annotations

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.preflight import preflight
from components.train import train
from components.transform import transform
from pipelines.form import Arguments, taken_by
from pipelines.tasks import (
    DATA,
    SMALL,
    has,
    has_as_told,
    may_log_to_mlflow,
    may_use_the_store,
    runs_as_nobody,
    survives_its_pod,
)


def looked_before(given: Arguments, **more: Any) -> dsl.PipelineTask:
    """Looks, before any work, at the arguments, the cluster, the sources and what serves now."""
    # Never taken from a cache: it looks at what may change from run to run.
    checked = preflight(**taken_by(preflight, given), **more).set_caching_options(False)
    runs_as_nobody(checked)
    has(checked, SMALL)
    may_use_the_store(checked)
    return checked


def given_to(stage: BaseComponent, given: Arguments, checked: dsl.PipelineTask) -> Arguments:
    """What the stage takes of the run's arguments: of its options its own, and the sources as preflight found them.

    So all stages read the same, and a cache has no answer where a source, the code, a library or an option of this
    very stage is another one.
    """
    own = {"options": checked.outputs[f"{stage.name}_options"], "pins": checked.outputs["pins"]}
    return taken_by(stage, given | own)


def prepared(given: Arguments, checked: dsl.PipelineTask) -> dsl.PipelineTask:
    """Makes the dataset."""
    data = transform(**given_to(transform, given, checked))
    runs_as_nobody(data)
    has(data, DATA)
    may_use_the_store(data)
    return data


def trained(
    data: dsl.PipelineTask, given: Arguments, told: Arguments, stage: BaseComponent = train
) -> dsl.PipelineTask:
    """Trains on the dataset.

    Args:
        data: The step that made it.
        given: The run's arguments, which say what the step may have of a cluster.
        told: What the stage is told of them.
        stage: train, or some of its inputs.
    """
    training = stage(**told, dataset=data.outputs["dataset"])
    runs_as_nobody(training)
    has_as_told(training, given, gpus=True)
    survives_its_pod(training)
    may_use_the_store(training)
    may_log_to_mlflow(training)
    return training


def judged_and_deployed(
    data: dsl.PipelineTask, model: Any, given: Arguments, checked: dsl.PipelineTask
) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
    """Evaluates the model on the test, lets the gate decide, and deploys what it lets through.

    The evaluation, and the gate's verdict.
    """
    evaluation = evaluate(
        **given_to(evaluate, given, checked),
        dataset=data.outputs["dataset"],
        model=model,
        champion_source=checked.outputs["champion_source"],
        champion_digest=checked.outputs["champion_digest"],
    )
    runs_as_nobody(evaluation)
    has_as_told(evaluation, given)
    may_use_the_store(evaluation)
    judged = {"metrics": evaluation.outputs["metrics"], "champion": checked.outputs["record"]}
    verdict = gate(**given_to(gate, given, checked) | judged)
    runs_as_nobody(verdict)
    has(verdict, SMALL)
    # On a bool, never on a string: kfp.local splices strings into the expression that it evaluates.
    with dsl.If(verdict.outputs["Output"] == True, name="approved"):  # noqa: E712
        # Deploy judges again, so that nobody gets past the gate by this bool.
        deployment = deploy(
            **given_to(deploy, given, checked) | judged,
            model=model,
            verdict=verdict.outputs["verdict"],
            approved=verdict.outputs["Output"],
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        ).set_caching_options(False)
        runs_as_nobody(deployment)
        has(deployment, SMALL)
    return evaluation, verdict
