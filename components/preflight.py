"""preflight: is all there that a run will need, and what is it now? Asked before hours of training, not after."""

from typing import Any, NamedTuple

from kfp import dsl

from components.stage import stage


@stage("deploy")
def preflight(
    report: dsl.Output[dsl.Markdown],
    record: dsl.Output[dsl.Artifact],
    dataset_id: str = "Yelp/yelp_review_full",
    text_column: str = "text",
    label_column: str = "label",
    label_names: str = "",
    task: str = "auto",
    max_rows: int = 1000,
    space: str = "",
    trials: int = 8,
    model_id: str = "google-bert/bert-base-cased",
    max_length: int = 256,
    batch_size: int = 2,
    iterations: int = 200,
    epochs: int = 1,
    learning_rate: float = 5e-5,
    time_limit: float = 0.0,
    num_nodes: int = 1,
    seed: int = 42,
    train_cpu: str = "2",
    train_memory: str = "4Gi",
    train_gpus: str = "",
    min_accuracy: float = 0.4,
    min_metrics: str = "",
    beat_baseline: bool = False,
    champion: str = "served",
    service_name: str = "miniml",
    namespace: str = "models",
    dry_run: bool = False,
    options: dict[str, Any] = {},
    trials_at_once: int = 1,
) -> NamedTuple(  # type: ignore[valid-type]
    "Found",
    [
        ("Output", list[str]),
        ("pins", str),
        ("champion_source", str),
        ("champion_digest", str),
        ("transform_options", dict[str, Any]),
        ("train_options", dict[str, Any]),
        ("pick_options", dict[str, Any]),
        ("evaluate_options", dict[str, Any]),
        ("gate_options", dict[str, Any]),
        ("deploy_options", dict[str, Any]),
    ],
):
    """Checks the run's arguments, looks at all that it will need, and finds the model that the new one has to beat.

    It fails naming all that is missing, with the commands that mend it. Take it from no cache: it is what tells other
    stages' caches that something has changed.

    Args:
        report: What was looked for, what the sources are, and the champion.
        record: The champion, for gate and deploy.
        space: Of a search, what it tries; empty where nothing is searched.
        options: All other arguments, by name.
        trials_at_once: How many trials of a search train beside each other.

    Returns:
        Output: The trials of a search, each as train's argument of that name. kfp.local loops over no other name.
        pins: What the sources are, and the code and libraries that read them, for transform and train.
        champion_source: Where the champion's model folder is; empty where there is none.
        champion_digest: What it is signed with; empty where there is none.
        transform_options: Those of options that transform takes.
        train_options: Those of options that train takes.
        pick_options: Those of options that pick takes.
        evaluate_options: Those of options that evaluate takes.
        gate_options: Those of options that gate takes.
        deploy_options: Those of options that deploy takes.
    """
    given = locals()
    from pathlib import Path

    from miniml.preflight.run_plan import plan_run

    plan = plan_run(given, Path(report.path))
    plan.champion.save(Path(record.path))
    stages = ("transform", "train", "pick", "evaluate", "gate", "deploy")
    options_by_stage = (plan.options[stage] for stage in stages)
    return (plan.trials, plan.pins, plan.champion.source, plan.champion.digest, *options_by_stage)
