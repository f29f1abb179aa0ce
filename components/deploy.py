"""Defines deploy: an approved model -> a live InferenceService."""

from typing import Any, NamedTuple

from kfp import dsl

from components.stage import stage
from miniml.settings.arguments import TAKEN_BY


@stage("deploy", TAKEN_BY["deploy"])
def deploy(
    model: dsl.Input[dsl.Model],
    metrics: dsl.Input[dsl.Metrics],
    champion: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Markdown],
    inference_service: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
    approved: bool,
    run: str = "",
    compressed: dsl.Input[dsl.Model] = None,
    **settings: Any,
) -> NamedTuple("Deployed", [("url", str), ("generation", int)]):  # type: ignore[valid-type]
    """Deploys the model on KServe, after checking the gate's verdict again; on failure restores the previous model.

    For a model on a local disk, which no pod can read, the InferenceService is only written as YAML.

    Args:
        model: The model folder that train wrote.
        metrics: The evaluation of this model.
        champion: The champion's record that preflight wrote.
        verdict: The gate's verdict, with the digest of the model that may be deployed.
        inference_service: The InferenceService, as YAML.
        summary: The model that serves now, its address, and the run that deployed it.
        approved: The gate's verdict.
        run: The id of the run, for a label.
        compressed: What compress wrote; its model is deployed if it is the one that was evaluated.

    Returns:
        url: The service's address; empty where nothing was applied.
        generation: The InferenceService's generation; 0 where nothing was applied.
    """
    from pathlib import Path

    from miniml.champion.record import Champion
    from miniml.deployment import deploy as deployment
    from miniml.evaluation.result import EvaluationResult
    from miniml.model.manifest import folder_with
    from miniml.settings.arguments import settings_given
    from miniml.settings.deployment import DeploymentSettings
    from miniml.settings.gate import GateSettings

    # Deploy checks the gate's rules again.
    rules, wanted = settings_given(settings, GateSettings, DeploymentSettings)
    result = EvaluationResult.read(Path(metrics.path))
    uris = {Path(each.path): each.uri for each in (model, compressed) if each}
    evaluated = folder_with(result.model_digest, list(uris))
    deployed = deployment.deploy(
        model_dir=evaluated,
        model_uri=uris[evaluated],
        approved=approved,
        signed_off=verdict.metadata["model_digest"],
        result=result,
        gate=rules,
        settings=wanted,
        manifest_path=Path(inference_service.path),
        champion=Champion.read(Path(champion.path)),
        run=run,
    )
    Path(summary.path).write_text(deployed.markdown(), encoding="utf-8")
    return (deployed.url, deployed.generation)
