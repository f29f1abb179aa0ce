"""What the tests on a cluster share: data in its store, and a first version that serves."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from miniml.model.classifier import Classifier
from miniml.tasks import SingleLabelPrediction
from tests.e2e import cluster
from tests.e2e.cluster import SETTINGS, Location, kubectl, submit


@pytest.fixture(scope="session", autouse=True)
def _on_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Publishes what is trained on, and leaves no service behind."""
    if os.environ.get("MINIML_E2E") != "1":
        pytest.skip("changes the current kube context's cluster: run make e2e")
    if not SETTINGS.arguments:
        cluster.publish_what_packages_carry(tmp_path_factory.mktemp("published"))
    yield
    kubectl("delete", "inferenceservice", SETTINGS.service, "--ignore-not-found", "--wait=false")


@pytest.fixture(scope="session")
def first(_on_a_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Classifier[SingleLabelPrediction]:
    """The first version, trained and deployed, and then fetched from the store as its predictor fetched it."""
    assert submit("--seed", str(SETTINGS.seed)).status == 0
    folder = Location.of_served_model().download(tmp_path_factory.mktemp("model"))
    return Classifier.load(folder, SingleLabelPrediction)
