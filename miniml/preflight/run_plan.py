"""What a run begins with: its arguments are checked, all that it needs is looked at, and a search is planned.

All that can be told before hours of training is told here, and at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miniml.champion.find import find_champion
from miniml.champion.record import Champion
from miniml.cluster.api import Cluster, in_pod, own_namespace
from miniml.files.digests import digest_of
from miniml.preflight.cluster_checks import Findings, inspect, inspect_training, nothing_to_deploy_to
from miniml.preflight.pinning import look_up, markdown_of
from miniml.progress import note
from miniml.search.plan import search_context, written
from miniml.settings.arguments import (
    SETTINGS,
    TAKEN_BY,
    arguments_of,
    changed,
    flat,
    options_among,
    settings_from,
)
from miniml.settings.champion import ChampionSettings
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.nodes import NodeSettings
from miniml.settings.search import SearchSettings, Trial, told
from miniml.settings.space import models_of
from miniml.settings.steps import StepSettings
from miniml.settings.training import TrainingSettings
from miniml.sources.pins import Pins
from miniml.train_job.sdk import require_pod


@dataclass(frozen=True)
class RunPlan:
    """What the stages of a run are told by its first one."""

    trials: list[str]
    """Of a search, each as `train` is given it; none where nothing is searched."""
    pins: str
    """What the sources are now, and the code and libraries that read them (see `miniml.sources.pins`)."""
    champion: Champion
    options: dict[str, dict[str, Any]]
    """By stage, those of the run's options that are its own and differ from their default."""


def plan_run(given: Mapping[str, Any], report: Path) -> RunPlan:
    """Checks a run's arguments and looks at all that it will need; `report` gets what was found, in Markdown.

    Args:
        given: The run's arguments by name, `options` among them. With a `space` it is a search, of which
            `trials_at_once` train beside each other.
        report: A file.

    Raises:
        InputError: an argument cannot be used.
        ClusterError: the cluster lacks what the run needs; the message names all of it, and the commands that mend it.
        ChampionError: something is served that cannot be compared with.
    """
    kinds = tuple(kind for kind in SETTINGS if given.get("space") or kind is not SearchSettings)
    arguments = flat(given, kinds)
    for kind in kinds:
        settings_from(kind, arguments)
    settings_from(StepSettings, arguments).require_use_of_gpus(settings_from(TrainingSettings, arguments))
    options = {stage: options_among(arguments, arguments_of(taken)) for stage, taken in TAKEN_BY.items()}
    search = _planned(arguments) if given.get("space") else []
    findings = _found_on_the_cluster(arguments)
    report.write_text(findings.markdown(), encoding="utf-8")
    findings.require_all()
    # Where the space names models, no trial trains the other one.
    models = models_of(str(given.get("space", ""))) or [arguments["model_id"]]
    sources = look_up([("dataset_id", arguments["dataset_id"]), *(("model_id", model) for model in models)])
    cluster = Cluster.connect() if in_pod() else None
    champion = find_champion(settings_from(ChampionSettings, arguments), cluster)
    report.write_text(
        "\n".join([findings.markdown(), markdown_of(sources), champion.markdown()]), encoding="utf-8"
    )
    trials = _told(search, arguments, int(given.get("trials_at_once", 1)), sources)
    return RunPlan(trials, sources.written(), champion, options)


def _found_on_the_cluster(arguments: Mapping[str, Any]) -> Findings:
    nodes = settings_from(NodeSettings, arguments)
    deployment = settings_from(DeploymentSettings, arguments)
    findings = Findings()
    if settings_from(TrainingSettings, arguments).num_nodes > 1:
        require_pod()
        findings += inspect_training(Cluster.connect(), own_namespace(), nodes.training_runtime)
    # On a laptop the models stay on its disk, and deploy only renders.
    if in_pod() and not deployment.dry_run:
        findings += inspect(Cluster.connect(), deployment.namespace, deployment.service_account)
    return findings if findings.entries else nothing_to_deploy_to()


def _planned(arguments: Mapping[str, Any]) -> list[Trial]:
    trials = settings_from(SearchSettings, arguments).plan(settings_from(TrainingSettings, arguments))
    for number, trial in enumerate(trials, 1):
        note(f"trial {number}: {told(trial)}")
    return trials


def _told(trials: list[Trial], arguments: Mapping[str, Any], at_once: int, sources: Pins) -> list[str]:
    """Each trial as `train` is given it."""
    if not trials:
        return []
    minutes = settings_from(TrainingSettings, arguments).time_limit
    # The same search gives each of its trials the minutes that it had before: so a cache can answer for it.
    run = digest_of({"minutes": minutes, "trials": len(trials), "at_once": at_once})[:16]
    contest = search_context(settings_from(SearchSettings, arguments), minutes, at_once, run)
    given = changed(arguments, arguments_of(TAKEN_BY["train"]))
    return [written(trial, contest, sources.written(), given) for trial in trials]
