"""Defines preflight: checks that a run has all that it will need, before hours of training instead of after."""

from typing import Any, NamedTuple

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import SETTINGS, WITH_OPTIONS


@stage("deploy", SETTINGS)
def preflight(
    report: dsl.Output[dsl.Markdown],
    record: dsl.Output[dsl.Artifact],
    space: str = "",
    trials_at_once: int = 1,
    **settings: Any,
) -> NamedTuple(  # type: ignore[valid-type]
    "Found",
    [
        ("Output", list[str]),
        ("pins", str),
        ("champion_source", str),
        ("champion_digest", str),
        ("node_selector", dict[str, Any]),
        ("toleration", dict[str, Any]),
        *((f"{name}_options", dict[str, Any]) for name in WITH_OPTIONS),
    ],
):
    """Checks the run's arguments and all that the run will need, and finds the model that the new one has to beat.

    It fails with a list of all that is missing, and the commands that remedy it. Disable its cache: its outputs tell
    the caches of other stages that something has changed.

    Args:
        report: The checks and their results, the sources' versions, and the champion.
        record: The champion, for gate and deploy.
        space: The search space; empty for a run without a search.
        trials_at_once: The number of trials of a search that train at the same time.

    Returns:
        Output: The trials of a search, each for train's argument trial. kfp.local loops over no other output name.
        pins: The versions of the sources, and of the code and libraries that read them, for transform and train.
        champion_source: The champion's model folder; empty where there is none.
        champion_digest: The digest of the champion's model; empty where there is none.
        node_selector: The labels of the nodes that may run train and compress; empty where any may.
        toleration: Their toleration of a taint of nodes with GPUs; empty where they ask for none.
        train_options: The options that train takes; every other stage with options has such an output.
    """
    from pathlib import Path

    from miniml.preflight.run_plan import plan_run

    plan = plan_run({**settings, "space": space}, Path(report.path), trials_at_once)
    plan.champion.save(Path(record.path))
    champion = (plan.champion.source, plan.champion.digest)
    return (plan.trials, plan.pins, *champion, plan.node_selector, plan.toleration, *plan.options.values())


for name in WITH_OPTIONS:
    preflight.component_spec.outputs[f"{name}_options"].description = f"The options that {name} takes."
