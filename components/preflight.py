"""preflight: is everything there that train and deploy will need? Asked before hours of training, not after."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def preflight(
    report: dsl.Output[dsl.Markdown],
    namespace: str,
    service_account: str,
    dry_run: bool,
    num_nodes: int,
    training_runtime: str,
) -> None:
    """Looks on the cluster for what the run needs, and fails naming all that is missing and the commands that mend it.

    Args:
        report: Each thing looked for, and what was found.
        namespace: The namespace to serve in.
        service_account: The served pods' account.
        dry_run: Nothing will be applied, so nothing is looked for that deploy needs.
        num_nodes: With more than 1, what training on several nodes needs is looked for.
        training_runtime: The runtime that the nodes will have.
    """
    from pathlib import Path

    from miniml.cluster import Cluster, in_pod, own_namespace
    from miniml.preflight import Findings, inspect, inspect_training, nothing_to_deploy_to
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
