"""Plans a run: checks its arguments and the cluster, pins its sources, finds the champion and plans a search.

All errors that can be found before hours of training are found here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from miniml.champion.find import find_champion
from miniml.champion.record import Champion
from miniml.cluster.api import Cluster, in_pod, own_namespace
from miniml.compression.int8_support import why_no_int8
from miniml.errors import InputError
from miniml.files.digests import digest_of
from miniml.preflight.cluster_checks import PreflightReport, check_deployment, check_training, no_checks
from miniml.preflight.pinning import look_up, markdown_of
from miniml.progress import logger
from miniml.resource_names import GPU_TOLERATION
from miniml.search.plan import encode_trial, search_context
from miniml.settings.arguments import (
    SETTINGS,
    TAKEN_BY,
    WITH_OPTIONS,
    arguments_of,
    changed,
    flat,
    options_among,
    settings_from,
)
from miniml.settings.champion import ChampionSettings
from miniml.settings.compression import CompressionSettings
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.nodes import NodeSettings
from miniml.settings.search import SearchSettings, Trial, describe_trial
from miniml.settings.space import models_of
from miniml.settings.steps import StepSettings
from miniml.settings.training import TrainingSettings
from miniml.sources.pins import Pins
from miniml.train_job.sdk import require_pod


@dataclass(frozen=True)
class RunPlan:
    """What the first stage of a run passes to the others."""

    trials: list[str]
    """The trials of a search, each as the argument `trial` of `train`; empty if the run is no search."""
    pins: str
    """What the sources are now, and the code and libraries that read them (see `miniml.sources.pins`)."""
    champion: Champion
    """The model that a new one has to beat, or why there is none."""
    node_selector: dict[str, str]
    """The labels of the nodes that may run the pods with GPUs; empty where any may, or no pod of a step trains."""
    toleration: dict[str, str]
    """The toleration of those pods, as Kubernetes takes it; empty where they have no GPU."""
    options: dict[str, dict[str, Any]]
    """For each stage, those of the run's options that it takes and that differ from their defaults."""


def plan_run(run_arguments: Mapping[str, Any], report: Path, trials_at_once: int = 1) -> RunPlan:
    """Checks a run's arguments and all that it will need, and plans its trials.

    Args:
        run_arguments: The run's arguments by name, `options` among them. With a `space` it is a search.
        report: The file to which the results of the checks are written, in Markdown.
        trials_at_once: How many trials of a search train in parallel.

    Raises:
        InputError: An argument cannot be used, or needs what this machine lacks, or the hub has no such repository or
            revision.
        ClusterError: The cluster lacks what the run needs; the message names all problems, each with its remedy. Or
            it does not answer.
        HubError: The hub does not answer.
        StoreError: The S3 store does not have a source, or does not answer.
        ChampionError: The served model cannot be compared with.
    """
    kinds = tuple(kind for kind in SETTINGS if run_arguments.get("space") or kind is not SearchSettings)
    arguments = flat(run_arguments, kinds)
    for kind in kinds:
        settings_from(kind, arguments)
    steps, training = settings_from(StepSettings, arguments), settings_from(TrainingSettings, arguments)
    steps.require_use_of_gpus(training)
    _require_int8(settings_from(CompressionSettings, arguments))
    options = {stage: options_among(arguments, arguments_of(TAKEN_BY[stage])) for stage in WITH_OPTIONS}
    trials = _plan_trials(arguments) if run_arguments.get("space") else []
    checks = _check_cluster(arguments)
    report.write_text(checks.markdown(), encoding="utf-8")
    checks.require_all()
    # If the space names models, no trial trains the one that model_id names.
    models = models_of(str(run_arguments.get("space", ""))) or [arguments["model_id"]]
    sources = look_up([("dataset_id", arguments["dataset_id"]), *(("model_id", model) for model in models)])
    cluster = Cluster.connect() if in_pod() else None
    champion = find_champion(settings_from(ChampionSettings, arguments), cluster)
    report.write_text(
        "\n".join([checks.markdown(), markdown_of(sources), champion.markdown()]), encoding="utf-8"
    )
    written_trials = _write_trials(trials, arguments, int(trials_at_once), sources)
    # Of a training on several nodes the step only waits, which it may do anywhere.
    selector = settings_from(NodeSettings, arguments).node_labels if training.num_nodes == 1 else {}
    toleration = GPU_TOLERATION if steps.gpus else {}
    return RunPlan(written_trials, sources.written(), champion, selector, toleration, options)


def _require_int8(settings: CompressionSettings) -> None:
    """Refuses int8 where compress will run on this machine, and could not make it.

    Raises:
        InputError: NNCF or the processor's instructions are missing.
    """
    # The image of this stage has no torch; where it is, the other stages run here too.
    if settings.compression == "int8" and find_spec("torch") and (reason := why_no_int8()):
        raise InputError(f"compression is int8. {reason}")


def _check_cluster(arguments: Mapping[str, Any]) -> PreflightReport:
    nodes = settings_from(NodeSettings, arguments)
    deployment = settings_from(DeploymentSettings, arguments)
    report = PreflightReport()
    if settings_from(TrainingSettings, arguments).num_nodes > 1:
        require_pod()
        report += check_training(Cluster.connect(), own_namespace(), nodes.training_runtime)
    # Outside a cluster models stay on this disk, and deploy only renders.
    if in_pod() and not deployment.dry_run:
        report += check_deployment(Cluster.connect(), deployment.namespace, deployment.service_account)
    return report if report.results else no_checks()


def _plan_trials(arguments: Mapping[str, Any]) -> list[Trial]:
    trials = settings_from(SearchSettings, arguments).plan(settings_from(TrainingSettings, arguments))
    for number, trial in enumerate(trials, 1):
        logger.info(f"trial {number}: {describe_trial(trial)}")
    return trials


def _write_trials(
    trials: list[Trial], arguments: Mapping[str, Any], at_once: int, sources: Pins
) -> list[str]:
    """Returns each trial as the argument `trial` of `train`."""
    if not trials:
        return []
    minutes = settings_from(TrainingSettings, arguments).time_limit
    # No random id: the trials of the same search again must be equal to these, so that KFP's cache knows them.
    run = digest_of({"minutes": minutes, "trials": len(trials), "at_once": at_once})[:16]
    context = search_context(settings_from(SearchSettings, arguments), minutes, at_once, run)
    train_arguments = changed(arguments, arguments_of(TAKEN_BY["train"]))
    return [encode_trial(trial, context, sources.written(), train_arguments) for trial in trials]
