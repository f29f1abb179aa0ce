"""Deploys an approved model, or restores the one that was served before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from miniml.champion.record import NOBODY, Champion
from miniml.cluster.api import Cluster, ConflictError
from miniml.cluster.inference_service import (
    MODEL_DIGEST,
    REVISION,
    RUN,
    STOPPED,
    disruption_budget,
    inference_service,
    storage_uri,
)
from miniml.deployment.rollout import RolloutTimeouts, SupersededError, wait_until_ready
from miniml.deployment.smoke_test import run_smoke_test
from miniml.errors import ClusterError, DeploymentError, GateError
from miniml.evaluation.result import EvaluationResult
from miniml.gate.rules import require_approved
from miniml.model import manifest
from miniml.progress import logger
from miniml.reports.markdown import heading, markdown_table
from miniml.resource_names import FIELD_MANAGER
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.gate import GateSettings


@dataclass(frozen=True)
class Deployed:
    """The result of a deployment."""

    service: dict[str, Any]
    """The InferenceService as the cluster has it, or as it was rendered if it was not applied."""
    applied: bool
    """Whether it was applied, and serves."""
    url: str = ""
    """The address that KServe reports; empty if the service was not applied."""
    generation: int = 0
    """The service's `metadata.generation`; 0 if it was not applied."""

    def markdown(self) -> str:
        """Returns a table of the service's address, model, digest and replicas."""
        metadata = self.service["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        predictor = self.service["spec"]["predictor"]
        rows = {
            "address": self.url or "none: rendered, not applied",
            "generation": str(self.generation or "none"),
            "model": predictor["model"]["storageUri"],
            "digest": metadata["annotations"][MODEL_DIGEST],
            "replicas": f"{predictor['minReplicas']} to {predictor['maxReplicas']}",
            "run": metadata["labels"].get(RUN, "none"),
        }
        title = f"{name} {'serves' if self.applied else 'is rendered'}"
        return f"{heading(title)}\n{markdown_table(('', ''), rows.items())}"


def deploy(
    model_dir: Path,
    model_uri: str,
    approved: bool,
    signed_off: str,
    result: EvaluationResult,
    gate: GateSettings,
    settings: DeploymentSettings,
    manifest_path: Path,
    *,
    champion: Champion = NOBODY,
    run: str = "",
    cluster: Cluster | None = None,
    timeouts: RolloutTimeouts | None = None,
) -> Deployed:
    """Renders the InferenceService of an approved model, applies it, waits until it is ready and tests it.

    If it does not become ready or fails the test, what was served before is restored. No pod can read a model at a
    local path, so such a model is only rendered, as in a dry run.

    Args:
        model_dir: The model folder.
        model_uri: The folder's address, from which the pods fetch it.
        approved: The gate's verdict.
        signed_off: The digest of the model that the verdict is about.
        result: The model's evaluation; its samples are the test's questions and expected answers.
        gate: The gate's settings.
        settings: The service's name, namespace and resources.
        manifest_path: The YAML file to write.
        champion: The model that the gate compared with.
        run: The id of the pipeline run, for a label; "" leaves the label out.
        cluster: The cluster to deploy to; None connects to the one that is configured.
        timeouts: How long to wait; None takes `deploy_timeout` from the settings, and the defaults for the rest.

    Raises:
        GateError: The gate did not approve this model, or another one has been deployed since.
        ModelFolderError: The folder's files are not those that training signed.
        InputError: KServe cannot read the scheme of `model_uri`.
        ClusterError: No cluster is configured, or it refuses the service or does not answer.
        DeploymentError: The service is stopped, did not become ready, or does not answer as in the evaluation. The
            message says whether what was served before was restored.
        SupersededError: Somebody else changed the service meanwhile.
    """
    digest = manifest.verify(model_dir).digest
    require_approved(approved, signed_off, result, digest, gate, champion)
    service = inference_service(storage_uri(model_uri), digest, settings, run)
    manifest_path.parent.mkdir(parents=True, exist_ok=True)
    manifest_path.write_text(yaml.safe_dump(service, sort_keys=False), encoding="utf-8")
    name = f"{settings.namespace}/{settings.service_name}"
    if settings.dry_run or model_uri.startswith("/"):
        logger.info(f"rendered InferenceService {name}")
        return Deployed(service, applied=False)
    cluster = cluster or Cluster.connect()
    _require_still_served(cluster, champion, name, digest, settings)
    live = _make_live(cluster, service, result, timeouts or RolloutTimeouts(settings.deploy_timeout))
    url = live.get("status", {}).get("url", "")
    logger.info(f"InferenceService {name} serves model {digest[:12]} at {url}")
    return Deployed(live, applied=True, url=url, generation=live["metadata"]["generation"])


def _require_still_served(
    cluster: Cluster, champion: Champion, name: str, digest: str, settings: DeploymentSettings
) -> None:
    """Raises GateError if another run has deployed since the gate's comparison, as its model was not compared with."""
    if champion.place != name:
        return
    before = cluster.inference_service(settings.namespace, settings.service_name)
    serves = _annotations(before).get(MODEL_DIGEST, "of unknown digest") if before else ""
    if serves not in (champion.digest, digest):
        raise GateError(
            f"the model is not deployed: {name} serves {f'model {serves[:16]}' if serves else 'nothing'} now, but the "
            f"gate compared with {champion.digest[:12] or 'nothing, as nothing was served'}. Run the pipeline again."
        )


def _make_live(
    cluster: Cluster, service: dict[str, Any], result: EvaluationResult, timeouts: RolloutTimeouts
) -> dict[str, Any]:
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    before = cluster.inference_service(namespace, name)
    _require_started(before)
    logger.info(f"applying InferenceService {namespace}/{name}{'' if before else ', a new one'}")
    applied = _apply(cluster, service)
    try:
        live = wait_until_ready(cluster, applied, timeouts)
        run_smoke_test(cluster, live, result)
    except SupersededError:
        raise  # Restoring would undo somebody else's change.
    except (DeploymentError, ClusterError) as error:
        raise DeploymentError(f"{error}\n{_roll_back(cluster, service, before, timeouts)}") from error
    _protect(cluster, live)
    return live


def _require_started(before: dict[str, Any] | None) -> None:
    if before and _annotations(before).get(STOPPED, "").lower() == "true":
        namespace, name = before["metadata"]["namespace"], before["metadata"]["name"]
        raise DeploymentError(
            f"InferenceService {namespace}/{name} is stopped (annotation {STOPPED}), so KServe starts no pods. "
            f"Start it, then deploy: kubectl annotate inferenceservice {name} -n {namespace} {STOPPED}-"
        )


def _protect(cluster: Cluster, live: dict[str, Any]) -> None:
    """Applies a PodDisruptionBudget for a service that is ready; a service that is rolled back keeps its own."""
    budget = disruption_budget(live)
    metadata = budget["metadata"]
    try:
        cluster.apply_at(
            f"/apis/policy/v1/namespaces/{metadata['namespace']}/poddisruptionbudgets/{metadata['name']}",
            budget,
        )
    except ClusterError as error:
        # The model is served; a rollback would do more harm than the drain of a node.
        logger.info(
            f"PodDisruptionBudget {metadata['namespace']}/{metadata['name']} could not be applied, so draining nodes "
            f"may take all pods of {live['metadata']['name']} at once: {error}"
        )


def _apply(cluster: Cluster, service: dict[str, Any]) -> dict[str, Any]:
    metadata = service["metadata"]
    try:
        return cluster.apply(service)
    except ConflictError as error:
        raise ClusterError(
            f"InferenceService {metadata['namespace']}/{metadata['name']} has fields that another manager owns: "
            f"{error}. To hand them to miniml, apply what deploy rendered (its artifact inference_service) once: "
            f"kubectl apply --server-side --force-conflicts --field-manager={FIELD_MANAGER} -f FILE."
        ) from error


def _roll_back(
    cluster: Cluster, service: dict[str, Any], before: dict[str, Any] | None, timeouts: RolloutTimeouts
) -> str:
    """Restores what was there before, and returns a sentence on how that went; it raises no error of the cluster."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    try:
        if before is None:
            cluster.delete_inference_service(namespace, name)
            return f"There was no {namespace}/{name} before, so the new one was deleted."
        logger.info(f"putting back what {namespace}/{name} served before")
        wait_until_ready(cluster, cluster.apply(_restorable(before), force=True), timeouts)
    except (DeploymentError, ClusterError) as error:
        return f"PUTTING BACK THE PREVIOUS REVISION FAILED TOO: {error}"
    digest = _annotations(before).get(MODEL_DIGEST, "of unknown digest")
    return f"What served before was put back and serves: model {digest[:12]}."


def _restorable(before: dict[str, Any]) -> dict[str, Any]:
    """Returns the object without the fields that the cluster added, so that it can be applied again."""
    metadata = before["metadata"]
    annotations = _annotations(before)
    # An object that miniml did not make has no revision. With one its pods differ from those that failed.
    annotations.setdefault(REVISION, f"before-{metadata.get('generation', 0)}")
    return {
        "apiVersion": before["apiVersion"],
        "kind": before["kind"],
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": metadata.get("labels") or {},
            "annotations": annotations,
        },
        "spec": before["spec"],
    }


def _annotations(service: dict[str, Any]) -> dict[str, str]:
    found = dict(service["metadata"].get("annotations") or {})
    found.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return found
