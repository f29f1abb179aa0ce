"""deploy: an approved model -> its InferenceService."""

from kfp import dsl

from miniml.images import image


@dsl.component(base_image=image("deploy"), install_kfp_package=False)
def deploy(
    model: dsl.Input[dsl.Model],
    metrics: dsl.Input[dsl.Metrics],
    inference_service: dsl.Output[dsl.Artifact],
    approved: bool,
    min_accuracy: float,
    service_name: str,
    namespace: str,
    min_replicas: int,
    max_replicas: int,
    cpu: str,
    memory: str,
) -> None:
    """Renders the InferenceService that serves the model, after checking the gate's verdict again.

    Args:
        model: What train wrote.
        metrics: What evaluate wrote of this very model.
        inference_service: The object for KServe, as YAML.
        approved: The gate's verdict.
        min_accuracy: The gate's threshold.
        service_name: The InferenceService's name.
        namespace: The namespace to serve it in.
        min_replicas: The least number of pods.
        max_replicas: The most pods that autoscaling may start.
        cpu: Processors of a pod, as Kubernetes writes them: 500m, 2.
        memory: Memory of a pod: 2Gi.
    """
    from pathlib import Path

    from miniml import deployment
    from miniml.evaluation_result import EvaluationResult
    from miniml.settings import DeploymentSettings, GateSettings

    deployment.deploy(
        model_dir=Path(model.path),
        model_uri=model.uri,
        approved=approved,
        result=EvaluationResult.read(Path(metrics.path)),
        gate=GateSettings(min_accuracy=min_accuracy),
        settings=DeploymentSettings(
            service_name=service_name,
            namespace=namespace,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            cpu=cpu,
            memory=memory,
        ),
        manifest_path=Path(inference_service.path),
    )
