"""preflight: is all there that a run will need, and what is it now? Asked before hours of training, not after."""

from typing import NamedTuple

from kfp import dsl

from components.stage import stage


@stage("deploy")
def preflight(
    report: dsl.Output[dsl.Markdown],
    dataset_id: str,
    model_id: str,
    namespace: str,
    service_account: str,
    dry_run: bool,
    num_nodes: int,
    training_runtime: str,
    searched: str = "",
) -> NamedTuple("Found", [("pins", str)]):  # type: ignore[valid-type]
    """Looks on the cluster for what the run needs, and fails naming all that is missing and the commands that mend it.

    And it finds out what dataset and models are at this moment, so that the whole run reads the same. Take it from no
    cache: it is what tells other stages' caches that something has changed.

    Args:
        report: Each thing looked for, and what was found.
        dataset_id: A hub id, a path, package://<package>/<file>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>.
        model_id: A hub id, a folder, package://<package>/<folder>, s3://<bucket>/<path> or s3://<bucket>/<name>@<version>.
        namespace: The namespace to serve in.
        service_account: The served pods' account.
        dry_run: Nothing will be applied, so nothing is looked for that deploy needs.
        num_nodes: With more than 1, what training on several nodes needs is looked for.
        training_runtime: The runtime that the nodes will have.
        searched: The space of a search, whose models are looked up where it names some.

    Returns:
        pins: What the sources are, and the code and libraries that read them, for the argument pins of transform and
            train.
    """
    from pathlib import Path

    from miniml import pins
    from miniml.cluster import Cluster, in_pod, own_namespace
    from miniml.preflight import Findings, inspect, inspect_training, nothing_to_deploy_to
    from miniml.search.space import models_of
    from miniml.trainer_sdk import require_pod

    findings = Findings()
    if num_nodes > 1:
        require_pod()
        findings += inspect_training(Cluster.connect(), own_namespace(), training_runtime)
    # On a laptop the models stay on its disk, and deploy only renders.
    if in_pod() and not dry_run:
        findings += inspect(Cluster.connect(), namespace, service_account)
    findings = findings if findings.entries else nothing_to_deploy_to()
    Path(report.path).write_text(findings.markdown(), encoding="utf-8")
    findings.require_all()
    # Where the space names models, no trial trains the other one.
    models = models_of(searched) or [model_id]
    found = pins.look_up([("dataset_id", dataset_id), *(("model_id", model) for model in models)])
    Path(report.path).write_text(f"{findings.markdown()}\n{found.markdown()}", encoding="utf-8")
    return (found.written(),)
