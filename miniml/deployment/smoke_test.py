"""Compares a new service's predictions with those of the evaluation for the same texts."""

from __future__ import annotations

import math
import time
from typing import Any

import requests

from miniml.cluster.api import Cluster
from miniml.cluster.inference_service import predictor_name
from miniml.errors import ClusterError, DeploymentError
from miniml.evaluation.result import EvaluationResult, Sample
from miniml.progress import logger

RETRY_AFTER = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts: a Service forwards to a pod only a moment after the pod is ready."""


def run_smoke_test(
    cluster: Cluster,
    service: dict[str, Any],
    result: EvaluationResult,
    retry_after: tuple[float, ...] = RETRY_AFTER,
) -> None:
    """Asks the service once for predictions of the evaluation's samples, and compares them.

    Args:
        cluster: The cluster, through whose API the service is asked from outside.
        service: The InferenceService.
        result: The model's evaluation, with its samples.
        retry_after: Seconds between attempts, until the service answers.

    Raises:
        DeploymentError: The service does not answer, or not as the evaluated model did.
        ClusterError: The API server, through which it is asked from outside, does not answer.
    """
    name = service["metadata"]["name"]
    texts = [sample.text for sample in result.samples]
    answers = _answers(cluster, service, texts, retry_after)
    worst = 0.0
    for sample, answer in zip(result.samples, answers, strict=True):
        what, off = _difference(sample, answer)
        worst = max(worst, off)
        if off > sample.tolerance:
            raise DeploymentError(
                f"{name} answers, but not as the evaluated model did: a {what} is off by {off:.3f} (rounding explains "
                f"{sample.tolerance:g} at most). Another model or another version of the image is being served."
            )
    logger.info(f"asked {name} {len(texts)} texts: the answers are evaluation's, within {worst:.4f}")


def _difference(sample: Sample, answer: dict[str, Any]) -> tuple[str, float]:
    """Returns what the answer consists of, and by how much it differs from the evaluated one at most."""
    if sample.value is not None:
        return "number", abs(sample.value - answer.get("value", math.inf))
    served = answer.get("probabilities", {})
    return "probability", max(
        abs(expected - served.get(label, 0.0)) for label, expected in sample.probabilities.items()
    )


def _answers(
    cluster: Cluster, service: dict[str, Any], texts: list[str], retry_after: tuple[float, ...]
) -> list[dict[str, Any]]:
    for wait in (*retry_after, None):
        try:
            return ask_service(cluster, service, texts)
        except (requests.RequestException, KeyError, ValueError, DeploymentError) as error:
            if wait is None:
                raise DeploymentError(
                    f"{service['metadata']['name']} is ready, but does not answer: {error}"
                ) from error
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def ask_by_name(cluster: Cluster, namespace: str, name: str, texts: list[str]) -> list[dict[str, Any]]:
    """Returns the predictions of the InferenceService of that name, one for each text.

    Args:
        cluster: The cluster.
        namespace: The service's namespace.
        name: The service's name.
        texts: The texts to classify.

    Returns:
        What the V1 protocol calls predictions, in the order of the texts.

    Raises:
        ClusterError: There is no such service, or it does not answer.
        DeploymentError: The service answers with an error, or not to all texts.
    """
    service = cluster.inference_service(namespace, name)
    if service is None:
        raise ClusterError(
            f"there is no InferenceService {namespace}/{name}. To list them: "
            f"kubectl get inferenceservices --all-namespaces."
        )
    try:
        return ask_service(cluster, service, texts)
    except requests.RequestException as error:
        raise ClusterError(f"{name} does not answer: {error}") from error


def ask_service(cluster: Cluster, service: dict[str, Any], texts: list[str]) -> list[dict[str, Any]]:
    """Returns the predictions of an InferenceService, from its own address or, from outside, through the API server.

    Args:
        cluster: The cluster.
        service: The InferenceService.
        texts: The texts to classify.

    Returns:
        What the V1 protocol calls predictions, in the order of the texts.

    Raises:
        DeploymentError: The service answers with an error, or not to all texts.
        ClusterError: The API server passes no answer on.
        requests.RequestException: The service does not answer.
        KeyError: The answer has no `predictions`.
        ValueError: The answer is not JSON.
    """
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    predictor = predictor_name(name)
    path, body = f"/v1/models/{name}:predict", {"instances": texts}
    address = service.get("status", {}).get("address", {}).get("url")
    address = address or f"http://{predictor}.{namespace}.svc.cluster.local"
    try:
        response = requests.post(f"{address}{path}", json=body, timeout=30)
    except requests.ConnectionError as error:
        if "resol" not in str(error):
            raise
        # Outside the cluster its DNS names do not resolve, so the API server is the proxy.
        answered = cluster.ask_through_proxy(namespace, predictor, path, body)
    else:
        if not response.ok:
            raise DeploymentError(f"{address}{path} answers {response.status_code}: {response.text[:300]}")
        answered = response.json()
    predictions: list[dict[str, Any]] = answered["predictions"]
    if len(predictions) != len(texts):
        raise DeploymentError(f"{name} gave {len(predictions)} answers to {len(texts)} texts")
    return predictions
