"""Asks a service that has just come up, and holds its answers against what evaluation said of the same texts."""

from __future__ import annotations

import math
import time
from typing import Any

import requests

from miniml.cluster.api import Cluster
from miniml.cluster.inference_service import predictor_name
from miniml.errors import ClusterError, DeploymentError
from miniml.evaluation.result import EvaluationResult, Sample
from miniml.progress import note

# Seconds between tries: a Service forwards to a pod a moment after the pod is ready.
RETRY_AFTER = (0.5, 1.0, 2.0, 4.0, 8.0)


def run_smoke_test(
    cluster: Cluster,
    service: dict[str, Any],
    result: EvaluationResult,
    retry_after: tuple[float, ...] = RETRY_AFTER,
) -> None:
    """Predicts once over the cluster's address.

    Raises:
        DeploymentError: it does not answer, or not as the evaluated model did.
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
                f"{name} answers, but not as the evaluated model did: a {what} is off by {off:.3f} (at most "
                f"{sample.tolerance:g} is taken for rounding). Another model or another version of the image is being "
                f"served."
            )
    note(f"asked {name} {len(texts)} texts: the answers are evaluation's, within {worst:.4f}")


def _difference(sample: Sample, answer: dict[str, Any]) -> tuple[str, float]:
    """What an answer is made of, and how far it lies from the evaluated one."""
    if sample.value is not None:
        return "number", abs(sample.value - answer.get("value", math.inf))
    served = answer.get("probabilities", {})
    return "probability", max(
        abs(share - served.get(label, 0.0)) for label, share in sample.probabilities.items()
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
    raise AssertionError("the last try returns or raises")


def ask_by_name(cluster: Cluster, namespace: str, name: str, texts: list[str]) -> list[dict[str, Any]]:
    """The answers of the InferenceService of that name.

    Raises:
        ClusterError: there is none, or it does not answer.
        DeploymentError: it answers with an error, or not to all of them.
    """
    service = cluster.inference_service(namespace, name)
    if service is None:
        raise ClusterError(
            f"there is no InferenceService {namespace}/{name}. Which there are: "
            f"kubectl get inferenceservices --all-namespaces."
        )
    try:
        return ask_service(cluster, service, texts)
    except requests.RequestException as error:
        raise ClusterError(f"{name} does not answer: {error}") from error


def ask_service(cluster: Cluster, service: dict[str, Any], texts: list[str]) -> list[dict[str, Any]]:
    """The predictor's answers to `texts`, over the service's own address or, from outside, through the API server.

    Raises:
        DeploymentError: it answers with an error, or not to all of them.
        requests.RequestException: it does not answer.
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
        # Outside the cluster its names mean nothing; the API server passes the question on.
        answered = cluster.ask_through_proxy(namespace, predictor, path, body)
    else:
        if not response.ok:
            raise DeploymentError(f"{address}{path} answers {response.status_code}: {response.text[:300]}")
        answered = response.json()
    predictions: list[dict[str, Any]] = answered["predictions"]
    if len(predictions) != len(texts):
        raise DeploymentError(f"{name} gave {len(predictions)} answers to {len(texts)} texts")
    return predictions
