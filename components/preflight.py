"""preflight: is everything there that deploy will need? Asked before hours of training, not after."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def preflight(
    report: dsl.Output[dsl.Markdown],
    namespace: str,
    service_account: str,
    dry_run: bool,
) -> None:
    """Looks on the cluster for what deploy needs, and fails naming all that is missing and the commands that mend it.

    Args:
        report: Each thing looked for, and what was found.
        namespace: The namespace to serve in.
        service_account: The served pods' account.
        dry_run: Nothing will be applied, so nothing is looked for.
    """
    from pathlib import Path

    from miniml.cluster import Cluster, in_pod
    from miniml.preflight import inspect, nothing_to_deploy_to

    # On a laptop the models stay on its disk, and deploy only renders.
    findings = inspect(Cluster.connect(), namespace, service_account) if in_pod() and not dry_run else None
    Path(report.path).write_text((findings or nothing_to_deploy_to()).markdown(), encoding="utf-8")
    if findings:
        findings.require_all()
