"""deploy: an approved model -> a live InferenceService."""

from typing import NamedTuple

from kfp import dsl

from components.stage import stage


@stage("deploy")
def deploy(
    model: dsl.Input[dsl.Model],
    metrics: dsl.Input[dsl.Metrics],
    champion: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Markdown],
    inference_service: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
    approved: bool,
    min_accuracy: float,
    min_metrics: str,
    max_calibration_error: float,
    min_slice_accuracy: float,
    beat_baseline: bool,
    beat_majority: bool,
    error_rate: float,
    min_gain: float,
    service_name: str,
    namespace: str,
    min_replicas: int,
    max_replicas: int,
    cpu: str,
    memory: str,
    autoscaling_metric: str,
    autoscaling_target: int,
    service_account: str,
    deploy_timeout: int,
    dry_run: bool,
    run: str,
) -> NamedTuple("Deployed", [("url", str), ("generation", int)]):  # type: ignore[valid-type]
    """Makes the model serve on KServe, after checking the gate's verdict again; on failure restores what served before.

    A model on a local disk, which no pod can read, has its InferenceService rendered only.

    Args:
        model: What train wrote.
        metrics: What evaluate wrote of this very model.
        champion: What the champion stage found.
        verdict: What the gate wrote; it names the digest of the model that may be deployed.
        inference_service: The object for KServe, as YAML.
        summary: What serves now, where, and since which run.
        approved: The gate's verdict.
        min_accuracy: This and the next seven are the gate's rules, held against the figures once more.
        min_metrics: See gate.
        max_calibration_error: See gate.
        min_slice_accuracy: See gate.
        beat_baseline: See gate.
        beat_majority: See gate.
        error_rate: See gate.
        min_gain: See gate.
        service_name: The InferenceService's name.
        namespace: The namespace to serve it in.
        min_replicas: The least number of pods.
        max_replicas: The most pods that autoscaling may start.
        cpu: Processors of a pod, as Kubernetes writes them: 500m, 2.
        memory: Memory of a pod: 2Gi.
        autoscaling_metric: cpu or memory.
        autoscaling_target: Percent of it that a pod uses before another one starts.
        service_account: The served pods' account, which lists the secret of the store.
        deploy_timeout: Seconds that the model has to become ready.
        dry_run: Only renders.
        run: The id of the run, for a label.

    Returns:
        url: The service's address; empty where nothing was applied.
        generation: The InferenceService's generation; 0 where nothing was applied.
    """
    from pathlib import Path

    from miniml import deployment
    from miniml.champion import Champion
    from miniml.evaluation_result import EvaluationResult
    from miniml.settings import DeploymentSettings, GateSettings

    deployed = deployment.deploy(
        model_dir=Path(model.path),
        model_uri=model.uri,
        approved=approved,
        signed_off=verdict.metadata["model_digest"],
        result=EvaluationResult.read(Path(metrics.path)),
        gate=GateSettings(
            min_accuracy=min_accuracy,
            min_metrics=min_metrics,
            max_calibration_error=max_calibration_error,
            min_slice_accuracy=min_slice_accuracy,
            beat_baseline=beat_baseline,
            beat_majority=beat_majority,
            error_rate=error_rate,
            min_gain=min_gain,
        ),
        settings=DeploymentSettings(
            service_name=service_name,
            namespace=namespace,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            cpu=cpu,
            memory=memory,
            autoscaling_metric=autoscaling_metric,
            autoscaling_target=autoscaling_target,
            service_account=service_account,
            deploy_timeout=deploy_timeout,
            dry_run=dry_run,
        ),
        manifest_path=Path(inference_service.path),
        champion=Champion.read(Path(champion.path)),
        run=run,
    )
    Path(summary.path).write_text(deployed.markdown(), encoding="utf-8")
    return (deployed.url, deployed.generation)
