"""What the account of a run's steps may not make of its right to create InferenceServices: two attacks are refused."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from miniml.cluster import SERVING_GROUP
from miniml.inference_service import inference_service
from miniml.installation import NAMESPACE, PIPELINE_ACCOUNT
from miniml.settings import DeploymentSettings
from tests.e2e.cluster import SETTINGS, kubectl

pytestmark = pytest.mark.cluster


def as_a_step(service: dict[str, Any], namespace: str) -> subprocess.CompletedProcess[str]:
    """Applies an InferenceService with a token of the steps' account, as whoever got hold of it would."""
    token = kubectl("create", "token", PIPELINE_ACCOUNT, namespace=NAMESPACE).strip()
    # The administrator's own certificate would go before the token.
    server = kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    words = [
        "kubectl",
        f"--server={server}",
        f"--token={token}",
        "--insecure-skip-tls-verify",
        "--kubeconfig=/dev/null",
    ]
    return subprocess.run(
        [*words, "--namespace", namespace, "apply", "--server-side", "--dry-run=server", "-f", "-"],
        input=json.dumps(service),
        capture_output=True,
        text=True,
    )


def a_service(namespace: str, predictor: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": f"{SERVING_GROUP}/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": f"{SETTINGS.service}-attack", "namespace": namespace},
        "spec": {"predictor": predictor},
    }


def test_a_privileged_pod_that_mounts_the_node_is_refused() -> None:
    attack = {
        "containers": [
            {
                "name": "kserve-container",
                "image": "busybox",
                "securityContext": {"privileged": True},
                "volumeMounts": [{"name": "node", "mountPath": "/node"}],
            }
        ],
        "volumes": [{"name": "node", "hostPath": {"path": "/"}}],
    }
    refused = as_a_step(a_service(SETTINGS.namespace, attack), SETTINGS.namespace)
    assert refused.returncode != 0, refused.stdout
    assert "denied request" in refused.stderr


def test_a_pod_with_another_account_and_the_database_s_secret_is_refused() -> None:
    secret = {"name": "mysql-secret", "key": "password"}
    attack = {
        "serviceAccountName": "pipeline-runner",
        "containers": [
            {
                "name": "kserve-container",
                "image": "busybox",
                "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": secret}}],
            }
        ],
    }
    for namespace in (NAMESPACE, SETTINGS.namespace):
        refused = as_a_step(a_service(namespace, attack), namespace)
        assert refused.returncode != 0, refused.stdout
        assert "denied" in refused.stderr or "forbidden" in refused.stderr


def test_what_deploy_itself_applies_is_taken() -> None:
    settings = DeploymentSettings(service_name=f"{SETTINGS.service}-tried", namespace=SETTINGS.namespace)
    taken = as_a_step(
        inference_service("s3://mlpipeline/model", "0" * 64, settings, "run"), SETTINGS.namespace
    )
    assert taken.returncode == 0, taken.stderr
