"""Makes a component of preflight: the sources of a run and its cluster -> what they are now, and what is missing."""

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
        *((f"{name}_options", dict[str, Any]) for name in WITH_OPTIONS),
    ],
):
    """Checks the run's arguments, looks at all that it will need, and finds the model that the new one has to beat.

    It fails naming all that is missing, with the commands that mend it. Take it from no cache: it is what tells other
    stages' caches that something has changed.

    Args:
        report: What was looked for, what the sources are, and the champion.
        record: The champion, for gate and deploy.
        space: Of a search, what it tries; empty where nothing is searched.
        trials_at_once: How many trials of a search train beside each other.

    Returns:
        Output: The trials of a search, each as train's argument of that name. kfp.local loops over no other name.
        pins: What the sources are, and the code and libraries that read them, for transform and train.
        champion_source: Where the champion's model folder is; empty where there is none.
        champion_digest: What it is signed with; empty where there is none.
        train_options: Those of options that train takes; there is such an output for every other stage.
    """
    from pathlib import Path

    from miniml.preflight.run_plan import plan_run

    plan = plan_run({**settings, "space": space}, Path(report.path), trials_at_once)
    plan.champion.save(Path(record.path))
    found = (plan.trials, plan.pins, plan.champion.source, plan.champion.digest)
    return (*found, *plan.options.values())


for name in WITH_OPTIONS:
    preflight.component_spec.outputs[f"{name}_options"].description = f"Those of options that {name} takes."
