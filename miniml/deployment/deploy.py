"""Makes an approved model a live service, or leaves what served before."""

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
from miniml.progress import note
from miniml.reports.markdown import heading, table
from miniml.resource_names import FIELD_MANAGER
from miniml.settings.deployment import DeploymentSettings
from miniml.settings.gate import GateSettings


@dataclass(frozen=True)
class Deployed:
    """What deploy leaves behind."""

    service: dict[str, Any]
    """The InferenceService: as the cluster has it, or, where nothing was applied, as it was rendered."""
    applied: bool
    url: str = ""
    """Its address, as KServe tells it; empty where nothing was applied."""
    generation: int = 0

    def markdown(self) -> str:
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
        return f"{heading(title)}\n{table(('', ''), rows.items())}"


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
    patience: RolloutTimeouts | None = None,
) -> Deployed:
    """Renders the InferenceService of an approved model into `manifest_path`, and makes it serve.

    A model at a local path can be read by no pod: it is rendered only, as in a dry run. `signed_off` is the digest
    that the gate's verdict names, `champion` what the gate compared with.

    Raises:
        GateError: the gate has not let this very model through.
        ModelFolderError: the folder is not the one that training signed.
        ClusterError: the cluster refuses it or does not answer.
        DeploymentError: it did not come to serve, or answers otherwise than in evaluation. What served before
            serves again.
    """
    digest = manifest.verify(model_dir).digest
    require_approved(approved, signed_off, result, digest, gate, champion)
    service = inference_service(storage_uri(model_uri), digest, settings, run)
    manifest_path.parent.mkdir(parents=True, exist_ok=True)
    manifest_path.write_text(yaml.safe_dump(service, sort_keys=False), encoding="utf-8")
    name = f"{settings.namespace}/{settings.service_name}"
    if settings.dry_run or model_uri.startswith("/"):
        note(f"rendered InferenceService {name}")
        return Deployed(service, applied=False)
    cluster = cluster or Cluster.connect()
    _require_still_served(cluster, champion, name, digest, settings)
    live = _make_live(cluster, service, result, patience or RolloutTimeouts(settings.deploy_timeout))
    url = live.get("status", {}).get("url", "")
    note(f"InferenceService {name} serves model {digest[:12]} at {url}")
    return Deployed(live, applied=True, url=url, generation=live["metadata"]["generation"])


def _require_still_served(
    cluster: Cluster, champion: Champion, name: str, digest: str, settings: DeploymentSettings
) -> None:
    """Another run may have deployed in the meantime; against its model nobody has held this one."""
    if champion.place != name:
        return
    before = cluster.inference_service(settings.namespace, settings.service_name)
    serves = _annotations(before).get(MODEL_DIGEST, "of unknown digest") if before else ""
    if serves not in (champion.digest, digest):
        raise GateError(
            f"the model is not deployed: {name} serves {f'model {serves[:16]}' if serves else 'nothing'} now, but the "
            f"gate compared with {champion.digest[:12] or 'nothing, for nothing was served'}. Run the pipeline again."
        )


def _make_live(
    cluster: Cluster, service: dict[str, Any], result: EvaluationResult, patience: RolloutTimeouts
) -> dict[str, Any]:
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    before = cluster.inference_service(namespace, name)
    _require_started(before)
    note(f"applying InferenceService {namespace}/{name}{'' if before else ', a new one'}")
    applied = _apply(cluster, service)
    try:
        live = wait_until_ready(cluster, applied, patience)
        run_smoke_test(cluster, live, result)
    except SupersededError:
        raise  # Whoever changed it means it to be so.
    except (DeploymentError, ClusterError) as error:
        raise DeploymentError(f"{error}\n{_put_back(cluster, service, before, patience)}") from error
    _protect(cluster, live)
    return live


def _require_started(before: dict[str, Any] | None) -> None:
    if before and _annotations(before).get(STOPPED, "").lower() == "true":
        namespace, name = before["metadata"]["namespace"], before["metadata"]["name"]
        raise DeploymentError(
            f"InferenceService {namespace}/{name} is stopped (annotation {STOPPED}), so KServe makes no pods of it. "
            f"Start it, then deploy: kubectl annotate inferenceservice {name} -n {namespace} {STOPPED}-"
        )


def _protect(cluster: Cluster, live: dict[str, Any]) -> None:
    """Gives a service that serves its PodDisruptionBudget; one that is rolled back keeps the one that it has."""
    budget = disruption_budget(live)
    metadata = budget["metadata"]
    try:
        cluster.apply_at(
            f"/apis/policy/v1/namespaces/{metadata['namespace']}/poddisruptionbudgets/{metadata['name']}",
            budget,
        )
    except ClusterError as error:
        # The model serves: to take it away for this would do more harm than a drain.
        note(
            f"PodDisruptionBudget {metadata['namespace']}/{metadata['name']} could not be applied, so draining nodes "
            f"may take all pods of {live['metadata']['name']} at once: {error}"
        )


def _apply(cluster: Cluster, service: dict[str, Any]) -> dict[str, Any]:
    metadata = service["metadata"]
    try:
        return cluster.apply(service)
    except ConflictError as error:
        raise ClusterError(
            f"InferenceService {metadata['namespace']}/{metadata['name']} has fields that somebody else manages: "
            f"{error}. To hand them to miniml, apply what deploy rendered (its artifact inference_service) once: "
            f"kubectl apply --server-side --force-conflicts --field-manager={FIELD_MANAGER} -f FILE."
        ) from error


def _put_back(
    cluster: Cluster, service: dict[str, Any], before: dict[str, Any] | None, patience: RolloutTimeouts
) -> str:
    """Restores what was there, and says how that went: it never hides why it was needed."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    try:
        if before is None:
            cluster.delete_inference_service(namespace, name)
            return f"There was no {namespace}/{name} before, so the new one was deleted."
        note(f"putting back what {namespace}/{name} served before")
        wait_until_ready(cluster, cluster.apply(_restorable(before), force=True), patience)
    except (DeploymentError, ClusterError) as error:
        return f"PUTTING BACK THE REVISION BEFORE FAILED TOO: {error}"
    digest = _annotations(before).get(MODEL_DIGEST, "of unknown digest")
    return f"What served before was put back and serves: model {digest[:12]}."


def _restorable(before: dict[str, Any]) -> dict[str, Any]:
    """The object as it can be applied again: what its makers said, without what the cluster added."""
    metadata = before["metadata"]
    annotations = _annotations(before)
    # One that miniml did not make has no revision; it gets one, so that its pods can be told from the failed ones.
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
