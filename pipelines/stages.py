"""The stages that our pipelines share, each with what it takes of the pipeline's arguments and of a cluster."""

from __future__ import annotations

from typing import Any

from kfp import dsl

from components.champion import champion
from components.deploy import deploy
from components.evaluate import evaluate
from components.gate import gate
from components.preflight import preflight
from components.train import train
from components.transform import transform
from pipelines.stage_arguments import taken_by
from pipelines.tasks import may_log_to_mlflow, may_use_the_store, survives_its_pod

Arguments = dict[str, Any]


def with_sources_pinned(given: Arguments) -> tuple[dsl.PipelineTask, Arguments]:
    """Looks at the cluster, and at what the run's sources are now.

    The stage that does, and the arguments with what it found: the stages that read sources take it as one of their own,
    so that all read the same, and a cache has no answer where a source, the code or a library is another one.
    """
    # Never taken from a cache: it looks at what may change from run to run.
    checked = preflight(**taken_by(preflight, given), searched=given.get("space", "")).set_caching_options(
        False
    )
    may_use_the_store(checked)
    return checked, given | {"pins": checked.outputs["pins"]}


def champion_to_beat(earlier: dsl.PipelineTask, given: Arguments) -> dsl.PipelineTask:
    """Looks at what serves now, before the training, so that what cannot be compared with is told early."""
    # Never taken from a cache, for the same reason.
    to_beat = champion(**taken_by(champion, given)).after(earlier).set_caching_options(False)
    may_use_the_store(to_beat)
    return to_beat


def dataset_after(earlier: dsl.PipelineTask, given: Arguments) -> dsl.PipelineTask:
    """Makes the dataset, once `earlier` is done."""
    data = transform(**taken_by(transform, given)).after(earlier)
    may_use_the_store(data)
    return data


def trained(data: dsl.PipelineTask, given: Arguments, **more: Any) -> dsl.PipelineTask:
    """Trains on the dataset; a trial is told by `more`."""
    training = train(**taken_by(train, given), dataset=data.outputs["dataset"], **more)
    survives_its_pod(training)
    may_use_the_store(training)
    may_log_to_mlflow(training)
    return training


def judged_and_deployed(
    data: dsl.PipelineTask, model: Any, to_beat: dsl.PipelineTask, given: Arguments
) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
    """Evaluates the model on the test, lets the gate decide, and deploys what it lets through.

    The evaluation, and the gate's verdict.
    """
    evaluation = evaluate(
        **taken_by(evaluate, given),
        dataset=data.outputs["dataset"],
        model=model,
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
            model=model,
            verdict=verdict.outputs["verdict"],
            approved=verdict.outputs["Output"],
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        ).set_caching_options(False)
    return evaluation, verdict
