"""What the account of a run's steps may not make of its right to create InferenceServices: two attacks are refused."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import requests

from miniml.cluster.inference_service import SERVING_GROUP, inference_service
from miniml.resource_names import NAMESPACE, PIPELINE_ACCOUNT
from miniml.settings.deployment import DeploymentSettings
from tests.command import ROOT
from tests.e2e.cluster import SETTINGS, TIMEOUT, forwarded, kubectl

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


def test_one_command_makes_another_namespace_serve() -> None:
    namespace = f"{SETTINGS.service}-team"
    subprocess.run([ROOT / "manifests/serving-namespace.sh", namespace], cwd=ROOT, check=True)
    try:
        settings = DeploymentSettings(service_name="tried", namespace=namespace)
        taken = as_a_step(inference_service("s3://mlpipeline/model", "0" * 64, settings, "run"), namespace)
        assert taken.returncode == 0, taken.stderr
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def test_the_gateway_says_in_json_that_there_is_no_such_service() -> None:
    with forwarded("service/miniml-gateway", 80, NAMESPACE) as address:
        answer = requests.post(f"http://{address}/{SETTINGS.namespace}/nowhere/predict", timeout=TIMEOUT)
    assert answer.status_code == 404
    assert answer.json().keys() == {"error"}
