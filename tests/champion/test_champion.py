"""What serves now is found, fetched and asked; and what cannot be compared with is never passed over."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from minio import Minio

from miniml.champion.challengers import count_challenger, digest_of_test
from miniml.champion.find import find_champion
from miniml.champion.record import NOBODY, Champion
from miniml.cluster.api import Cluster
from miniml.cluster.inference_service import MODEL_DIGEST, inference_service
from miniml.errors import ChampionError, ClusterError, InputError, ModelFolderError
from miniml.evaluation.champion_comparison import compare_with_champion
from miniml.evaluation.predictions import Predictions
from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.settings.champion import ChampionSettings
from miniml.settings.deployment import DeploymentSettings
from miniml.store.address import s3_address
from miniml.store.repository import publish
from miniml.tasks.single_label.predictions import SingleLabelPredictions
from tests import tiny
from tests.kubernetes_server import KubernetesServer
from tests.s3_server import READER, WRITER, S3Server

SETTINGS = ChampionSettings(service_name="stars", namespace="models")
BUCKET, FOLDER = "champions", "v2/artifacts/text-classification/run-1/train/model"
SOURCE = f"s3://{BUCKET}/{FOLDER}"
TEST = "e" * 64
TEXTS = ["the food was great", "awful cold food", "we loved it", "dirty and rude"]


@pytest.fixture(scope="module")
def served_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(tmp_path_factory.mktemp("champion") / "model", spread=1.0)


@pytest.fixture
def store(
    s3_server: S3Server, served_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Minio]:
    """KFP's store, with the model in it; the stage may only read."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "S3_", "MINIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    client = s3_server.client()
    client.make_bucket(BUCKET)
    _upload(client, served_model)
    yield client
    for item in client.list_objects(BUCKET, recursive=True):
        client.remove_object(BUCKET, str(item.object_name))
    client.remove_bucket(BUCKET)


def _upload(client: Minio, folder: Path) -> None:
    for path in folder.rglob("*"):
        client.fput_object(BUCKET, f"{FOLDER}/{path.relative_to(folder).as_posix()}", str(path))


@pytest.fixture
def kubernetes() -> Iterator[KubernetesServer]:
    with KubernetesServer(lambda text: {}) as running:
        yield running


@pytest.fixture
def cluster(kubernetes: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.write_kubeconfig(tmp_path / "kubeconfig")))
    return Cluster.connect(retry_after=(0.01,))


def test_no_name_leads_to_another_thing_of_the_clusters_api(cluster: Cluster) -> None:
    for namespace, name in (
        ("models", "../../secrets/mine"),
        ("models/..", "stars"),
        ("models", "stars?x=1"),
    ):
        with pytest.raises(ClusterError, match="names nothing of a cluster's API"):
            cluster.inference_service(namespace, name)


def serve(kubernetes: KubernetesServer, digest: str, source: str = SOURCE) -> dict[str, Any]:
    settings = DeploymentSettings(service_name="stars", namespace="models")
    service = inference_service(source, digest, settings)
    kubernetes.services["stars"] = service
    return service


def digest_of(folder: Path) -> str:
    return manifest.read(folder).digest


def test_what_serves_is_found_by_its_address_and_digest(
    kubernetes: KubernetesServer, cluster: Cluster, store: Minio, served_model: Path, tmp_path: Path
) -> None:
    serve(kubernetes, digest_of(served_model))
    found = find_champion(SETTINGS, cluster)
    assert found == Champion(digest_of(served_model), SOURCE, "0" * 64, "models/stars")
    found.save(tmp_path / "record")
    assert Champion.read(tmp_path / "record") == found
    assert found.digest in found.markdown()
    # The weights are evaluation's to fetch: it may well come from the cache.
    fetched = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert "miniml.json" in fetched
    assert "model.safetensors" not in fetched


def test_of_an_entry_that_serves_only_the_list_of_its_files_is_read(
    kubernetes: KubernetesServer, cluster: Cluster, store: Minio, served_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    address = f"s3://{BUCKET}/stars@v1"
    publish(served_model, s3_address("model", address))
    found = find_champion(ChampionSettings(address), None)
    assert (found.digest, found.source) == (digest_of(served_model), address)
    fetched = {
        path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size
    }
    assert fetched == {"miniml.json"}


def test_where_nothing_serves_that_is_said(cluster: Cluster) -> None:
    found = find_champion(SETTINGS, cluster)
    assert not found.exists
    assert found.absent == "Nothing is served as models/stars"
    assert "absolute rules" in found.markdown()
    assert find_champion(SETTINGS, None).absent == "No cluster serves anything here"


def test_none_looks_nowhere(kubernetes: KubernetesServer, cluster: Cluster) -> None:
    serve(kubernetes, "c" * 64)
    found = find_champion(ChampionSettings("none", "stars", "models"), cluster)
    assert (found.exists, found.place) == (False, "")
    assert kubernetes.requests == []


def test_a_cluster_that_does_not_say_is_an_error_and_not_an_empty_place(
    kubernetes: KubernetesServer, cluster: Cluster
) -> None:
    kubernetes.denied = {"get inferenceservices"}
    with pytest.raises(ClusterError, match="refuses GET"):
        find_champion(SETTINGS, cluster)
    kubernetes.denied, kubernetes.drops = set(), 100
    with pytest.raises(ClusterError, match="does not answer"):
        find_champion(SETTINGS, cluster)


def test_a_service_that_miniml_did_not_make_cannot_be_compared_with(
    kubernetes: KubernetesServer, cluster: Cluster, store: Minio, served_model: Path
) -> None:
    service = serve(kubernetes, digest_of(served_model))
    del service["metadata"]["annotations"][MODEL_DIGEST]
    with pytest.raises(
        ChampionError, match=r"models/stars cannot be the champion.*no annotation.*champion=none"
    ):
        find_champion(SETTINGS, cluster)
    serve(kubernetes, digest_of(served_model), "pvc://models/old")
    with pytest.raises(ChampionError, match="pvc://models/old"):
        find_champion(SETTINGS, cluster)
    kubernetes.services["stars"]["spec"] = {"predictor": {"containers": []}}
    with pytest.raises(ChampionError, match="no model folder"):
        find_champion(SETTINGS, cluster)


def test_a_folder_that_is_gone_or_another_ones_is_told_before_any_training(
    kubernetes: KubernetesServer, cluster: Cluster, store: Minio
) -> None:
    serve(kubernetes, "c" * 64)
    with pytest.raises(ChampionError, match=r"serves model cccccccccccc, but s3://.* now holds"):
        find_champion(SETTINGS, cluster)
    store.remove_object(BUCKET, f"{FOLDER}/miniml.json")
    with pytest.raises(ChampionError, match=r"cannot be the champion.*champion=none"):
        find_champion(SETTINGS, cluster)


def test_a_person_may_name_the_champion(served_model: Path, store: Minio) -> None:
    for source in (str(served_model), SOURCE):
        found = find_champion(ChampionSettings(source), None)
        assert (found.digest, found.source, found.place) == (digest_of(served_model), source, "")
    with pytest.raises(InputError, match=r"champion '\./nowhere': no such file or folder"):
        find_champion(ChampionSettings("./nowhere"), None)
    with pytest.raises(ChampionError, match="neither a folder"):
        find_champion(ChampionSettings("google-bert/bert-base-cased"), None)


def answered(model_dir: Path, right: list[bool]) -> Predictions:
    """Predictions of another model, of rows whose true labels are what the model in `model_dir` answers."""
    labels = Classifier.load(model_dir).labels
    references = Classifier.load(model_dir).predict_probabilities(TEXTS).argmax(axis=1)
    answers = np.where(right, references, 1 - references)
    probabilities = np.eye(2, dtype=np.float32)[answers]
    return SingleLabelPredictions(
        labels, TEXTS, references, probabilities, probabilities, references, "d" * 64, "f" * 64
    )


def champion_at(folder: Path, source: str = "") -> Champion:
    return Champion(manifest.read(folder).digest, source or str(folder))


def test_it_answers_the_same_rows_by_the_names_of_its_labels(served_model: Path, tmp_path: Path) -> None:
    predictions = answered(served_model, [True, False, True, False])
    same = compare_with_champion(champion_at(served_model), predictions, TEST)
    assert same is not None
    assert (same.champion_accuracy, same.only_challenger, same.only_champion) == (1.0, 0, 2)
    # The same weights, whose classes are called the other way round.
    turned = tiny.write_classifier(tmp_path / "turned", labels=("good", "bad"), spread=1.0)
    wrong = compare_with_champion(champion_at(turned), predictions, TEST)
    assert wrong is not None
    assert (wrong.champion_accuracy, wrong.only_challenger, wrong.only_champion) == (0.0, 2, 0)
    assert compare_with_champion(NOBODY, predictions, TEST) is None


def test_its_folder_is_fetched_and_every_byte_checked(store: Minio, served_model: Path) -> None:
    champion, predictions = champion_at(served_model, SOURCE), answered(served_model, [True] * 4)
    found = compare_with_champion(champion, predictions, TEST)
    assert found is not None
    assert (found.champion_digest, found.champion_accuracy) == (champion.digest, 1.0)
    weights = (served_model / "model.safetensors").read_bytes()
    flipped = weights[:-1] + bytes([weights[-1] ^ 1])
    store.put_object(BUCKET, f"{FOLDER}/model.safetensors", io.BytesIO(flipped), len(flipped))
    with pytest.raises(ModelFolderError, match=r"model\.safetensors has SHA-256"):
        compare_with_champion(champion, predictions, TEST)
    store.remove_object(BUCKET, f"{FOLDER}/model.safetensors")
    with pytest.raises(ModelFolderError, match=r"model\.safetensors is missing"):
        compare_with_champion(champion, predictions, TEST)


def test_another_signed_folder_in_its_place_is_refused(served_model: Path, tmp_path: Path) -> None:
    other = tiny.write_classifier(tmp_path / "other", labels=("no", "yes"))
    found_before = Champion(manifest.read(served_model).digest, str(other))
    with pytest.raises(ChampionError, match="Start the run again"):
        compare_with_champion(found_before, answered(served_model, [True] * 4), TEST)


def test_a_champion_of_other_classes_is_refused_as_one_of_another_task_is(
    served_model: Path, tmp_path: Path
) -> None:
    predictions = answered(served_model, [True] * 4)
    more = tiny.write_classifier(tmp_path / "more", labels=("bad", "good", "so so"), spread=1.0)
    with pytest.raises(ChampionError, match=r'only it has "so so"\. .* champion=none'):
        compare_with_champion(champion_at(more), predictions, TEST)
    renamed = tiny.write_classifier(tmp_path / "renamed", labels=("Bad", "Good"), spread=1.0)
    with pytest.raises(ChampionError, match=r'only it has "Bad", "Good"; only the new one has "bad", "good"'):
        compare_with_champion(champion_at(renamed), predictions, TEST)
    many = tiny.write_classifier(tmp_path / "many", labels=tuple(f"label {n}" for n in range(300)))
    with pytest.raises(ChampionError, match="and 295 more") as refused:
        compare_with_champion(champion_at(many), predictions, TEST)
    assert len(str(refused.value)) < 1000


def test_each_challenger_is_counted_once_beside_its_champion(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model", spread=1.0)
    champion = champion_at(folder)
    numbers = [
        count_challenger(champion, TEST, challenger)
        for challenger in ("1" * 64, "2" * 64, "2" * 64, "3" * 64)
    ]
    assert [each.number for each in numbers] == [1, 2, 2, 3]
    assert count_challenger(champion, "9" * 64, "4" * 64).number == 1  # on another test
    assert manifest.verify(folder).digest == champion.digest
    predictions = answered(folder, [True, False, True, False])
    found = compare_with_champion(champion, predictions, TEST)
    assert found is not None
    assert found.challenge == 4


def test_the_store_counts_challengers_too_and_where_nobody_may_write_that_is_said(
    store: Minio, served_model: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = champion_at(served_model, SOURCE)
    unwritable = count_challenger(champion, TEST, "1" * 64)
    assert unwritable.number == 0
    assert "do not have the right to write" in unwritable.uncounted
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRITER[1])
    numbers = {count_challenger(champion, TEST, digest * 64).number for digest in "1231"}
    assert numbers <= {1, 2, 3}
    assert 3 in numbers | {count_challenger(champion, TEST, "3" * 64).number}


def test_a_test_is_the_same_in_any_order_and_another_with_another_label() -> None:
    assert digest_of_test(["a", "b"], ["x", "y"]) == digest_of_test(["b", "a"], ["y", "x"])
    assert digest_of_test(["a", "b"], ["x", "y"]) != digest_of_test(["a", "b"], ["y", "x"])
