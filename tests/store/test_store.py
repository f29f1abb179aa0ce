"""The store against a real S3 server: what it keeps, what it refuses, and what it survives."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest
from minio import Minio

from miniml.data import preparation, prepared
from miniml.data.tokens import measure
from miniml.errors import InputError, MinimlError, ModelFolderError, StorageError, StoreError
from miniml.files.digests import digest_of, sha256
from miniml.model import manifest
from miniml.preflight.pinning import look_up
from miniml.settings.data import DataSettings
from miniml.settings.training import TrainingSettings
from miniml.store import connection, repository
from miniml.store.address import S3Address, s3_address
from miniml.store.connection import Bucket
from miniml.store.mirror import Mirror
from miniml.store.repository import RetryTimeouts
from miniml.training.fine_tune import fine_tune
from tests import patience, tiny
from tests.command import ROOT, pipeline
from tests.conftest import TRAINING
from tests.disks import small_disk
from tests.hub_server import HubServer
from tests.s3_server import READER, WRITER, S3Server, Wire

SHORT = RetryTimeouts(first=0.5, later=0.5)
LONG = RetryTimeouts(first=patience.SECONDS, later=patience.SECONDS)
"""For a store that does not answer; one that does may take longer where the machine is busy."""
LARGE = 6_000_000
"""Bytes: more than what sockets on the way hold, so that a cut comes in mid-file."""


@pytest.fixture(scope="session")
def server(s3_server: S3Server) -> S3Server:
    return s3_server


@pytest.fixture(autouse=True)
def environment(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says where the store is, and nothing that this machine's user has set."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "S3_", "MINIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINIML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    use(monkeypatch, WRITER)


def use(monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str]) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])


@pytest.fixture
def client(server: S3Server) -> Minio:
    return server.client()


@pytest.fixture
def bucket(client: Minio, tmp_path: Path) -> Iterator[str]:
    """A bucket of the test's own."""
    name = f"bucket-{abs(hash(tmp_path)) % 10**12}"
    client.make_bucket(name)
    yield name
    for item in client.list_objects(name, recursive=True):
        client.remove_object(name, str(item.object_name))
    client.remove_bucket(name)


def at(text: str) -> S3Address:
    return s3_address("address", text)


def put(client: Minio, bucket: str, key: str, content: bytes) -> None:
    client.put_object(bucket, key, io.BytesIO(content), len(content))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def keys(client: Minio, bucket: str, prefix: str) -> list[str]:
    found = client.list_objects(bucket, f"miniml/{prefix}/", recursive=True)
    return [str(item.object_name).removeprefix(f"miniml/{prefix}/") for item in found]


def refused(action: Callable[[], Any], kind: type[MinimlError] = StoreError) -> str:
    """The message of the error that `action` ends in, which shows no secret, nor do the errors behind it."""
    with pytest.raises(kind) as caught:
        action()
    everything = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for _, secret in (WRITER, READER):
        assert secret not in everything
    return str(caught.value)


# What is kept, and how it is called


def test_a_model_comes_back_byte_for_byte_under_the_digest_that_signs_it(bucket: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    tiny.write_classifier(model)
    digest = repository.publish(model, at(f"s3://{bucket}/movies@v1"))
    assert digest == manifest.read(model).digest
    fetched = repository.fetch(at(f"s3://{bucket}/movies@v1"), tmp_path / "fetched")
    assert contents(fetched.path) == contents(model)
    assert manifest.verify(fetched.path).digest == digest
    assert fetched.source == f"s3://{bucket}/movies@v1#sha256={digest}"


def test_a_model_that_was_tampered_with_is_not_published(bucket: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    tiny.write_classifier(model)
    (model / "config.json").write_text("{}")
    message = refused(lambda: repository.publish(model, at(f"s3://{bucket}/movies@v1")), ModelFolderError)
    assert "config.json" in message
    assert repository.versions(bucket) == []


def test_any_folder_comes_back_as_it_was(bucket: str, tmp_path: Path) -> None:
    files = {"train.csv": b"a,b\n", "more/ä name.csv": b"x", "empty": b"", "twice/a": b"same", "b": b"same"}
    folder = write(tmp_path / "folder", files)
    repository.publish(folder, at(f"s3://{bucket}/team/reviews@v1"))
    fetched = repository.fetch(at(f"s3://{bucket}/team/reviews@v1"), tmp_path / "fetched")
    assert contents(fetched.path) == files
    fetched.path.joinpath("b").write_bytes(b"changed")
    assert fetched.path.joinpath("twice/a").read_bytes() == b"same"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetched", "folder"]


def test_a_single_file_is_published_as_a_folder_of_one(bucket: str, reviews: Path, tmp_path: Path) -> None:
    repository.publish(reviews, at(f"s3://{bucket}/reviews@v1"))
    fetched = repository.fetch(at(f"s3://{bucket}/reviews@v1"), tmp_path / "fetched")
    assert contents(fetched.path) == {"reviews.csv": reviews.read_bytes()}


def test_the_same_content_is_kept_once_and_publishing_it_again_changes_nothing(
    bucket: str, client: Minio, tmp_path: Path
) -> None:
    folder = write(tmp_path / "folder", {"a": b"1", "b": b"2", "c": b"1"})
    first = repository.publish(folder, at(f"s3://{bucket}/one@v1"))
    assert len(keys(client, bucket, "blobs")) == 2
    write(folder, {"b": b"3"})
    second = repository.publish(folder, at(f"s3://{bucket}/one@v2"))
    assert second != first
    assert len(keys(client, bucket, "blobs")) == 3
    before = {item.object_name: item.last_modified for item in client.list_objects(bucket, recursive=True)}
    assert repository.publish(folder, at(f"s3://{bucket}/one@v2")) == second
    assert before.keys() == {item.object_name for item in client.list_objects(bucket, recursive=True)}
    assert len(keys(client, bucket, "manifests")) == 2


def test_a_version_never_changes(bucket: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"a": b"1"})
    first = repository.publish(folder, at(f"s3://{bucket}/one@v1"))
    write(folder, {"a": b"2"})
    message = refused(lambda: repository.publish(folder, at(f"s3://{bucket}/one@v1")))
    second = repository.publish(folder, at(f"s3://{bucket}/one@v2"))
    assert first in message
    assert second in message
    assert repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out").source.endswith(first)


def test_of_many_publishers_of_a_version_one_wins_and_the_others_are_told(
    bucket: str, tmp_path: Path
) -> None:
    folders = [write(tmp_path / f"folder{n}", {"a": str(n).encode()}) for n in range(6)]
    together = threading.Barrier(len(folders))

    def publish(folder: Path) -> str:
        together.wait()
        try:
            return repository.publish(folder, at(f"s3://{bucket}/one@v1"))
        except StoreError as error:
            return str(error)

    with ThreadPoolExecutor(len(folders)) as pool:
        answers = list(pool.map(publish, folders))
    winners = [answer for answer in answers if len(answer) == 64]
    assert len(winners) == 1
    assert all(winners[0] in answer for answer in answers)
    assert {found.digest for found in repository.versions(bucket)} == {winners[0]}


def test_latest_is_what_was_published_last_and_an_old_version_published_again_does_not_bring_it_back(
    bucket: str, tmp_path: Path
) -> None:
    digests = {}
    for version in ("v1", "v2"):
        folder = write(tmp_path / version, {"a": version.encode()})
        digests[version] = repository.publish(folder, at(f"s3://{bucket}/one@{version}"))

    def latest() -> str:
        return next(found.digest for found in repository.versions(bucket, "one") if found.version == "latest")

    assert latest() == digests["v2"]
    repository.publish(tmp_path / "v1", at(f"s3://{bucket}/one@v1"))
    assert latest() == digests["v2"]
    repository.publish(tmp_path / "v1", at(f"s3://{bucket}/one@latest"))
    assert latest() == digests["v1"]


def test_a_digest_or_enough_of_it_finds_the_entry(bucket: str, client: Minio, tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"a": b"1"})
    digest = repository.publish(folder, at(f"s3://{bucket}/one@v1"))
    for number, length in enumerate((64, 8)):
        fetched = repository.fetch(at(f"s3://{bucket}/one@sha256:{digest[:length]}"), tmp_path / str(number))
        assert contents(fetched.path) == {"a": b"1"}
    other = digest[:10] + "0" * 54
    put(client, bucket, f"miniml/manifests/{other}.json", b"{}")
    message = refused(
        lambda: repository.fetch(at(f"s3://{bucket}/one@sha256:{digest[:8]}"), tmp_path / "out")
    )
    assert digest in message
    assert other in message
    message = refused(lambda: repository.fetch(at(f"s3://{bucket}/one@sha256:aaaaaaaa"), tmp_path / "out"))
    assert "no digest in the bucket begins with aaaaaaaa" in message


# As a source of datasets and models


def test_datasets_come_from_the_store_and_say_which_content_they_were(
    bucket: str, client: Minio, reviews: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    put(client, bucket, "raw/reviews.csv", reviews.read_bytes())
    repository.publish(reviews, at(f"s3://{bucket}/reviews@v1"))
    local = prepared.load(dataset_dir)[1]
    sources = []
    for number, path in enumerate(("raw/reviews.csv", "raw", "raw/", "reviews@latest")):
        asked = DataSettings(dataset_id=f"s3://{bucket}/{path}", label_names="bad,good")
        summary = preparation.prepare(asked, tmp_path / str(number))
        assert summary.fingerprint == local.fingerprint
        assert summary.source.startswith(f"s3://{bucket}/{path}#sha256=")
        sources.append(summary.source)
    assert sources[0].endswith(sha256(reviews))
    # A folder has the digest that it would be published under.
    assert sources[1].partition("#")[2] == sources[3].partition("#")[2]
    again = DataSettings(dataset_id=sources[0], label_names="bad,good")
    assert preparation.prepare(again, tmp_path / "again").source == sources[0]


def test_a_recorded_source_brings_what_it_was_or_an_error(bucket: str, client: Minio, tmp_path: Path) -> None:
    put(client, bucket, "raw/a.csv", b"text,label\n")
    pinned = repository.cached("dataset_id", at(f"s3://{bucket}/raw/a.csv")).source
    put(client, bucket, "raw/a.csv", b"text,label\nother,1\n")
    assert "what lies there now is" in refused(lambda: repository.cached("dataset_id", at(pinned)))
    assert "what lies there now is" in refused(lambda: repository.fetch(at(pinned), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    write(tmp_path / "one", {"a": b"1"})
    write(tmp_path / "two", {"a": b"2"})
    first = repository.publish(tmp_path / "one", at(f"s3://{bucket}/one@v1"))
    second = repository.publish(tmp_path / "two", at(f"s3://{bucket}/one@v2"))
    message = refused(lambda: repository.cached("model_id", at(f"s3://{bucket}/one@latest#sha256={first}")))
    assert f"has digest {second}" in message
    assert f"Take @sha256:{first} instead" in message


def test_a_pretrained_model_comes_from_the_store_and_the_result_says_which(
    bucket: str, encoder: Path, dataset_dir: Path, tmp_path: Path
) -> None:
    digest = repository.publish(encoder, at(f"s3://{bucket}/encoder@v1"))
    settings = TrainingSettings(**{**TRAINING, "model_id": f"s3://{bucket}/encoder@latest", "iterations": 2})
    fine_tune(dataset_dir, tmp_path / "model", settings)
    signed = manifest.verify(tmp_path / "model")
    assert signed.arguments["pretrained"] == f"s3://{bucket}/encoder@latest#sha256={digest}"


def test_tokens_are_counted_with_the_tokenizer_alone_and_the_weights_are_not_asked_for(
    server: S3Server,
    bucket: str,
    client: Minio,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = shutil.copytree(encoder, tmp_path / "model")
    (model / "model.safetensors").write_bytes(os.urandom(LARGE))
    digest = repository.publish(model, at(f"s3://{bucket}/models/encoder@v1"))
    for path in model.iterdir():
        put(client, bucket, f"plain/encoder/{path.name}", path.read_bytes())
    published, plain = f"s3://{bucket}/models/encoder", f"s3://{bucket}/plain/encoder"
    recorded = f"#sha256={'0' * 64}"  # Of the whole folder, which only those compare who fetch it.
    versions = [f"{published}@{which}" for which in ("latest", f"sha256:{digest}", f"v1#sha256={digest}")]
    texts = {"train": datasets.Dataset.from_dict({"text": ["great food"]})}
    for number, address in enumerate((*versions, plain, f"{plain}/", f"{plain}{recorded}")):
        cache = tmp_path / f"cache-{number}"
        monkeypatch.setenv("MINIML_CACHE", str(cache))
        with Wire(server.port) as wire:
            monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
            pinned = look_up([("model_id", address)]).of(address)
            lengths = measure(texts, pinned, max_length=32)
        assert lengths.trouble == ""
        assert lengths.of_split["train"].tolist() == [4]  # with [CLS] and [SEP]
        assert wire.passed < LARGE / 10
        kept = {path.name: path.stat().st_size for path in cache.rglob("*") if path.is_file()}
        assert {name for name, size in kept.items() if size} == {"tokenizer.json"}


def test_a_folder_without_the_one_file_that_is_wanted_says_so(
    bucket: str, client: Minio, tmp_path: Path
) -> None:
    repository.publish(write(tmp_path / "one", {"config.json": b"{}"}), at(f"s3://{bucket}/one@v1"))
    put(client, bucket, "plain/config.json", b"{}")
    message = refused(
        lambda: repository.cached_file("model_id", at(f"s3://{bucket}/one@v1"), "tokenizer.json")
    )
    assert "one@v1': the entry has no file tokenizer.json" in message
    message = refused(
        lambda: repository.cached_file("model_id", at(f"s3://{bucket}/plain"), "tokenizer.json")
    )
    assert "no object or folder 'plain/tokenizer.json'; beside it there are: plain/config.json" in message


def test_what_was_fetched_once_is_not_fetched_again_unless_it_was_damaged(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(LARGE)
    repository.publish(write(tmp_path / "folder", {"a": content}), at(f"s3://{bucket}/one@v1"))
    address = at(f"s3://{bucket}/one@v1")
    for damage, sent_at_least in ((False, LARGE), (False, 0), (True, LARGE)):
        if damage:
            (repository.cached("model_id", address).path / "a").write_bytes(b"x" * LARGE)
        with Wire(server.port) as wire:
            monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
            assert contents(repository.cached("model_id", address).path) == {"a": content}
            assert sent_at_least <= wire.passed < sent_at_least + 100_000
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)


def test_what_identifies_an_address_changes_with_what_lies_there_and_only_then(
    bucket: str, client: Minio, tmp_path: Path
) -> None:
    entry, plain = at(f"s3://{bucket}/one@latest"), at(f"s3://{bucket}/raw")
    seen: dict[S3Address, set[str]] = {entry: set(), plain: set()}
    for content in (b"1", b"1", b"2"):
        version = f"v{content.decode()}"
        repository.publish(write(tmp_path / "folder", {"a": content}), at(f"s3://{bucket}/one@{version}"))
        put(client, bucket, "raw/a.csv", content)
        for address, identities in seen.items():
            identities.add(repository.identify("dataset_id", address))
    assert [len(identities) for identities in seen.values()] == [2, 2]


def test_two_that_want_the_same_at_once_fetch_it_once(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(LARGE)
    repository.publish(write(tmp_path / "folder", {"a": content}), at(f"s3://{bucket}/one@v1"))
    with Wire(server.port, stop_at=2_000_000) as wire, ThreadPoolExecutor(2) as pool:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        first = pool.submit(repository.cached, "model_id", at(f"s3://{bucket}/one@v1"))
        assert wire.reached.wait(patience.SECONDS)
        second = pool.submit(repository.cached, "model_id", at(f"s3://{bucket}/one@v1"))
        wire.released.set()
        assert first.result(patience.SECONDS) == second.result(patience.SECONDS)
        assert wire.passed < LARGE + 100_000
    assert contents(first.result().path) == {"a": content}


def test_a_run_with_a_model_that_the_store_lacks_ends_before_any_work(
    bucket: str, reviews: Path, tmp_path: Path
) -> None:
    ended = pipeline(
        *("run", "--outputs", tmp_path / "out", "--dataset-id", reviews),
        *("--model-id", f"s3://{bucket}/encoder@v1"),
    )
    assert ended.status == 1
    assert f"preflight: model_id 's3://{bucket}/encoder@v1': bucket '{bucket}' has no entry" in ended.err
    assert "transform" not in ended.out
    assert WRITER[1] not in ended.out + ended.err


def test_without_the_client_everything_but_s3_works() -> None:
    script = (
        "import sys; sys.modules['minio'] = None; import miniml.data, miniml.local.runner; "
        "from miniml.sources.address import locate; print(locate('model_id', 's3://bucket/encoder@v1'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "s3://bucket/encoder@v1\n"


# What it survives


def test_a_connection_cut_in_mid_file_goes_on_where_it_broke(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "folder", {"a": os.urandom(LARGE)})
    repository.publish(folder, at(f"s3://{bucket}/one@v1"))
    with Wire(server.port, cut_after=[2_000_000, 1_500_000]) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out")
        assert wire.cuts == 2
        # Neither cut made it begin anew: what was sent is the file, and what a cut loses on the way.
        assert wire.passed < LARGE + 300_000
    assert contents(tmp_path / "out") == contents(folder)


def test_a_fetch_that_was_given_up_leaves_no_folder_and_the_next_one_goes_on_from_it(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "folder", {"a": os.urandom(1_000_000), "b": os.urandom(LARGE)})
    repository.publish(folder, at(f"s3://{bucket}/one@v1"))
    with Wire(server.port, stop_at=4_000_000) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        # The process that fetches is killed, as a pod is that is moved.
        fetching = subprocess.Popen(
            [sys.executable, "-m", "miniml.store", "fetch", f"s3://{bucket}/one@v1", tmp_path / "out"],
            cwd=ROOT,
        )
        assert wire.reached.wait(patience.SECONDS)
        partial = next(tmp_path.glob(".out.*.fetching"))
        while not any(path.name.endswith(".partial") and path.stat().st_size for path in partial.iterdir()):
            assert fetching.poll() is None
        fetching.kill()
        fetching.wait()
    assert not (tmp_path / "out").exists()
    kept = sum(path.stat().st_size for path in partial.iterdir())
    with Wire(server.port) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out")
        assert wire.passed < LARGE + 1_100_000 - kept
    assert contents(tmp_path / "out") == contents(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out"]


def test_a_server_killed_in_mid_transfer_and_started_again_is_waited_for(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "folder", {"a": os.urandom(LARGE), "b": os.urandom(1000)})
    repository.publish(folder, at(f"s3://{bucket}/one@v1"))
    with Wire(server.port, stop_at=2_000_000) as wire, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        fetching = pool.submit(repository.fetch, at(f"s3://{bucket}/one@v1"), tmp_path / "out")
        assert wire.reached.wait(patience.SECONDS)
        server.kill()
        try:
            wire.released.set()
        finally:
            server.start()
        fetching.result()
    assert contents(tmp_path / "out") == contents(folder)


def test_what_is_written_while_the_server_restarts_gets_there(
    server: S3Server, bucket: str, client: Minio
) -> None:
    with ThreadPoolExecutor(1) as pool:
        known = Bucket(bucket, f"s3://{bucket}", LONG)
        known.write("a", b"before")
        server.kill()
        writing = pool.submit(known.write, "a", b"after")
        try:
            assert not writing.done()
        finally:
            server.start()
        writing.result()
    assert client.get_object(bucket, "a").data == b"after"


def test_a_bucket_that_was_there_and_is_not_found_for_a_moment_is_waited_for(
    server: S3Server, bucket: str, client: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(server.port) as wire, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        known = Bucket(bucket, f"s3://{bucket}", LONG)
        assert known.listing("") == []
        client.remove_bucket(bucket)
        answered = wire.passed
        writing = pool.submit(known.write, "a", b"content")
        patience.wait_until(lambda: wire.passed > answered)
        assert not writing.done()
        client.make_bucket(bucket)
        writing.result()
    assert client.get_object(bucket, "a").data == b"content"


def test_a_server_that_does_not_come_back_is_given_up_and_named(
    server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.publish(write(tmp_path / "folder", {"a": os.urandom(LARGE)}), at(f"s3://{bucket}/one@v1"))
    with Wire(server.port, cut_after=[2_000_000] + [0] * 1000) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        message = refused(lambda: repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out", SHORT))
    assert f"the store at {wire.url} cannot be reached" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "request_part",
    [b"GET ", b"HEAD ", b"?uploads=", b"partNumber=2", b"<Complete", b"If-None-Match", b"latest HTTP"],
)
def test_an_answer_that_is_lost_while_publishing_is_asked_for_again(
    request_part: bytes, server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "folder", {"a": os.urandom(LARGE)})
    with Wire(server.port, lose_answer_to=request_part) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        digest = repository.publish(folder, at(f"s3://{bucket}/one@v1"))
        assert wire.lose_answer_to == b""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    assert {(found.version, found.digest) for found in repository.versions(bucket)} == {
        ("v1", digest),
        ("latest", digest),
    }
    assert contents(repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out").path) == contents(folder)


def test_a_file_that_changes_while_it_is_published_is_not_published_as_what_it_was(
    server: S3Server, bucket: str, client: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "folder", {"a": b"1"})
    with Wire(server.port, stop_at=1) as wire, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        publishing = pool.submit(repository.publish, folder, at(f"s3://{bucket}/one@v1"))
        # It asks whether the version is free, and so has hashed the file.
        assert wire.reached.wait(patience.SECONDS)
        write(folder, {"a": b"2"})
        wire.released.set()
        assert "was changed while it was published" in refused(publishing.result)
    assert keys(client, bucket, "blobs") + keys(client, bucket, "names") == []


def test_an_object_that_changes_while_it_is_read_is_not_sewn_together(
    server: S3Server, bucket: str, client: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, bucket, "raw/a.csv", os.urandom(LARGE))
    with Wire(server.port, cut_after=[2_000_000], stop_at=2_000_000) as wire, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        fetching = pool.submit(repository.fetch, at(f"s3://{bucket}/raw/a.csv"), tmp_path / "out")
        assert wire.reached.wait(patience.SECONDS)
        put(client, bucket, "raw/a.csv", os.urandom(LARGE))
        wire.released.set()
        assert "raw/a.csv was changed in the store while it was being read" in refused(fetching.result)
    assert not (tmp_path / "out").exists()


# What it refuses


@pytest.mark.parametrize(
    ("variables", "address", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "one@v1", "does not accept the credentials that come from the env"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "one@v1", "does not accept the credentials that come from the environ"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "raw/a.csv", "does not accept the credentials that come from the env"),
        ({"AWS_ACCESS_KEY_ID": ""}, "one@v1", "and none were found. Set AWS_ACCESS_KEY_ID and"),
        ({}, "one@v9", "of 'one' it has: one@latest, one@v1"),
        ({}, "two@v1", "has no entry two@v1; it has: one@latest, one@v1"),
        ({}, "raw/b.csv", "has no object or folder 'raw/b.csv'; beside it there are: raw/a.csv"),
        ({}, "", "it names a bucket and nothing in it"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "one@v1", "http://127.0.0.1:9 cannot be reached"),
        ({"AWS_ACCESS_KEY_ID": "wrong\n"}, "one@v1", "the environment hold a line break"),
        ({"AWS_ENDPOINT_URL": "http://u:wrong@127.0.0.1:9"}, "one@v1", "AWS_ENDPOINT_URL holds an '@'"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9/path"}, "one@v1", "Write it as http(s)://host:port"),
        ({"AWS_REGION": "no region"}, "one@v1", "Set AWS_ENDPOINT_URL and AWS_REGION"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said_with_the_remedy(
    variables: dict[str, str],
    address: str,
    message: str,
    bucket: str,
    client: Minio,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository.publish(write(tmp_path / "folder", {"a": b"1"}), at(f"s3://{bucket}/one@v1"))
    put(client, bucket, "raw/a.csv", b"text,label\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    limit = SHORT if "cannot be reached" in message else RetryTimeouts()
    said = refused(lambda: repository.fetch(at(f"s3://{bucket}/{address}"), tmp_path / "out", limit))
    assert message in said
    assert "wrong" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("status", "message"), [(503, "answered 503, and did so again"), (404, "Check that AWS_END")]
)
def test_a_server_that_fails_or_is_no_store_is_told_by_its_answer(
    status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer(tmp_path, status=status) as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", other.url)
        enough_for_two = RetryTimeouts(first=5.0)
        said = refused(lambda: repository.fetch(at("s3://bucket/one@v1"), tmp_path / "out", enough_for_two))
        asked = len(other.asked)
    assert message in said
    assert (asked > 1) is (status == 503)  # Only what may pass is asked for again.


def test_a_server_that_accepts_and_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer(tmp_path, hang_on="/") as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", other.url)
        said = refused(lambda: repository.fetch(at("s3://bucket/one@v1"), tmp_path / "out", SHORT))
    assert f"the store at {other.url} cannot be reached (ReadTimeoutError" in said


def test_a_missing_bucket_is_named_beside_those_that_there_are(bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "folder", {"a": b"1"})
    for action in (
        lambda: repository.fetch(at("s3://no-such/one@v1"), tmp_path / "out"),
        lambda: repository.fetch(at("s3://no-such/a.csv"), tmp_path / "out"),
        lambda: repository.publish(tmp_path / "folder", at("s3://no-such/one@v1")),
    ):
        message = refused(action)
        assert "has no bucket 'no-such'; it has: " in message
        assert bucket in message


def test_who_may_only_read_cannot_publish_and_leaves_nothing_that_looks_published(
    bucket: str, client: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, READER)
    write(tmp_path / "folder", {"a": b"1"})
    message = refused(lambda: repository.publish(tmp_path / "folder", at(f"s3://{bucket}/one@v1")))
    assert "do not have the right to write to it" in message
    assert "come from the environment" in message
    assert keys(client, bucket, "names") == []


def test_corruption_in_the_store_is_told_by_file_and_digests_and_nothing_is_left(
    bucket: str, client: Minio, tmp_path: Path
) -> None:
    folder = write(tmp_path / "folder", {"sound": b"1", "weights": b"right"})
    digest = repository.publish(folder, at(f"s3://{bucket}/one@v1"))
    right, wrong = (
        sha256(folder / "weights"),
        sha256(write(tmp_path, {"w": b"wrong"}) / "w"),
    )
    address = at(f"s3://{bucket}/one@v1")
    put(client, bucket, f"miniml/blobs/{right}", b"wrong")
    message = refused(lambda: repository.fetch(address, tmp_path / "out"))
    assert "weights is corrupted in the store" in message
    assert right in message
    assert wrong in message
    assert refused(lambda: repository.cached("model_id", address)).startswith(
        f"model_id '{address}': weights"
    )
    client.remove_object(bucket, f"miniml/blobs/{right}")
    assert "has lost miniml/blobs/" in refused(lambda: repository.fetch(address, tmp_path / "out"))
    repository.publish(folder, address)  # The remedy.
    assert contents(repository.fetch(address, tmp_path / "good").path) == contents(folder)
    put(client, bucket, f"miniml/manifests/{digest}.json", b'{"content": {"files": {}}, "sizes": {}}')
    assert f"expected digest {digest}, found" in refused(lambda: repository.fetch(address, tmp_path / "out"))
    put(client, bucket, "miniml/names/one@v1", b"[" * 100_000)
    assert "miniml/names/one@v1 is corrupted" in refused(lambda: repository.fetch(address, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


SHA = hashlib.sha256(b"1").hexdigest()


@pytest.mark.parametrize(
    ("files", "sizes", "message"),
    [
        ({"../outside": SHA}, {"../outside": 1}, "is no path of a file in the folder"),
        ({"/etc/passwd": SHA}, {"/etc/passwd": 1}, "is no path of a file in the folder"),
        ({"a\x1b[2J": SHA}, {"a\x1b[2J": 1}, "\\x1b\\x5b2J"),
        ({"a" * 300: SHA}, {"a" * 300: 1}, "is no path of a file in the folder"),
        ({"a/" * 600 + "a": SHA}, {"a/" * 600 + "a": 1}, "is no path of a file in the folder"),
        ({"a": SHA}, {"a": 10**400}, "is no size"),
        ({"a": SHA, "a/b": SHA}, {"a": 1, "a/b": 1}, '"a" is both a file and a folder'),
        ({"miniml.json": SHA}, {"miniml.json": 1}, "miniml.json is listed"),
        ({"a": "../../mine"}, {"a": 1}, "is no SHA-256"),
        ({"a": SHA.upper()}, {"a": 1}, "is no SHA-256"),
        ({"a": 7}, {"a": 1}, "is no SHA-256"),
        ({"a": SHA}, {"a": -1}, "is no size"),
        ({"a": SHA}, {"a": 1e999}, "is no size"),
        ({"a": SHA}, {"a": True}, "is no size"),
        ({"a": SHA}, {}, "without a size"),
        ([["a", SHA]], {"a": 1}, "cannot be read"),
    ],
)  # fmt: skip
def test_a_manifest_that_a_stranger_wrote_is_refused_where_it_is_read(
    files: Any, sizes: Any, message: str, bucket: str, client: Minio, tmp_path: Path
) -> None:
    content = {"files": files, "format": 1}
    digest = digest_of(content)
    stored = json.dumps({"content": content, "sizes": sizes}).encode()
    put(client, bucket, f"miniml/manifests/{digest}.json", stored)
    put(client, bucket, f"miniml/blobs/{SHA}", b"1")
    address = at(f"s3://{bucket}/one@sha256:{digest}")
    for action in (
        lambda: repository.fetch(address, tmp_path / "out" / "in"),
        lambda: repository.cached("model_id", address),
    ):
        said = refused(action)
        assert message in said
        assert f"miniml/manifests/{digest}.json is corrupted" in said
        assert len(said) < 700
    assert not (tmp_path / "out").exists()


def test_a_store_cannot_have_the_victims_own_files_taken_for_its_own(
    bucket: str, client: Minio, tmp_path: Path
) -> None:
    mine = write(tmp_path / "home", {"key": b"1"}) / "key"
    content = {"files": {"a": str(mine)}, "format": 1}
    digest = digest_of(content)
    stored = {"content": content, "sizes": {"a": 1}}
    put(client, bucket, f"miniml/manifests/{digest}.json", json.dumps(stored).encode())
    put(client, bucket, "miniml/names/one@v1", json.dumps({"digest": digest}).encode())
    address = at(f"s3://{bucket}/one@v1")
    refused(lambda: repository.fetch(address, tmp_path / "out"))
    refused(lambda: repository.cached("model_id", address))
    # The checkpoints of a training come by another list.
    sealed = json.dumps({"trainer_state.json": [1, str(mine)]}).encode()
    put(client, bucket, "miniml/checkpoints/step-1/sealed.json", sealed)
    mirror = Mirror("checkpoints", S3Address(bucket, "miniml/checkpoints"))
    assert "is no SHA-256" in refused(lambda: mirror.download("step-1", tmp_path / "step-1"))
    for path in ("/etc/passwd", "../x", "sealed.json"):
        put(client, bucket, "miniml/checkpoints/step-1/sealed.json", json.dumps({path: [1, SHA]}).encode())
        assert "is corrupted" in refused(lambda: mirror.download("step-1", tmp_path / "step-1"))
    put(client, bucket, "miniml/checkpoints/a/step-2/sealed.json", b"{}")
    assert mirror.names() == ["step-1"]
    assert mine.read_bytes() == b"1"


def test_what_lies_about_is_not_trusted_to_be_what_the_store_has(bucket: str, tmp_path: Path) -> None:
    digest = repository.publish(
        write(tmp_path / "folder", {"a": b"1", "b": b"2"}), at(f"s3://{bucket}/one@v1")
    )
    other = write(tmp_path / "other", {"x": b"1"}) / "x"
    staging = tmp_path / f".out.{digest[:16]}.fetching"
    write(staging, {SHA: b"9"})
    (staging / hashlib.sha256(b"2").hexdigest()).symlink_to(other)
    repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out")
    assert contents(tmp_path / "out") == {"a": b"1", "b": b"2"}
    assert other.read_bytes() == b"1"
    # Nor what lies in the cache: a link leads to whatever somebody puts there.
    cached = repository.cached("model_id", at(f"s3://{bucket}/one@v1")).path
    (cached / "a").unlink()
    (cached / "a").symlink_to(other)
    assert not (repository.cached("model_id", at(f"s3://{bucket}/one@v1")).path / "a").is_symlink()


def test_of_a_file_that_is_longer_than_announced_no_more_is_taken(
    server: S3Server, bucket: str, client: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.publish(write(tmp_path / "folder", {"a": b"1"}), at(f"s3://{bucket}/one@v1"))
    put(client, bucket, f"miniml/blobs/{SHA}", b"1" * 4 * LARGE)
    with Wire(server.port) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        message = refused(lambda: repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out"))
        assert wire.passed < 4 * LARGE
    assert "expected SHA-256" in message and "and more" in message
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    put(client, bucket, "miniml/names/one@v1", b" " * (connection.BYTES_READ_WHOLE + 1))
    assert "is none of miniml's" in refused(
        lambda: repository.fetch(at(f"s3://{bucket}/one@v1"), tmp_path / "out")
    )


LISTED = "<Contents><Key>raw/{n}</Key><Size>1</Size><ETag>e</ETag></Contents>"
ANSWER = (
    "<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated>"
    "<NextContinuationToken>more</NextContinuationToken>{all}</ListBucketResult>"
)


@pytest.mark.parametrize("objects", [0, 1000])
def test_a_listing_without_an_end_is_given_up(
    objects: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_LISTED", 5_000)

    class Endless(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", -1  # headers and body go together

        def do_GET(self) -> None:
            body = ANSWER.format(all="".join(LISTED.format(n=n) for n in range(objects))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as endless:
        threading.Thread(target=endless.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{endless.server_port}")
        for action in (
            lambda: repository.versions("bucket"),
            lambda: repository.fetch(at("s3://bucket/raw"), tmp_path / "out"),
        ):
            assert "without an end" in refused(action)
        endless.shutdown()


def test_an_answer_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BYTES_READ_WHOLE", 1_000_000)

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if "names" in self.path else 200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"<" * 65536)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as endless:
        threading.Thread(target=endless.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{endless.server_port}")
        for action in (
            lambda: repository.versions("bucket"),
            lambda: repository.fetch(at("s3://bucket/raw"), tmp_path / "out"),
            lambda: repository.fetch(at("s3://bucket/one@v1"), tmp_path / "out"),
        ):
            assert "without an end" in refused(action)
        endless.shutdown()


def test_what_is_no_regular_file_is_not_published(bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"x": b"1"})
    for name, target in (("file", "elsewhere/x"), ("folder", "elsewhere"), ("nowhere", "no-such")):
        folder = write(tmp_path / f"with-{name}", {"a": b"1"})
        (folder / name).symlink_to(tmp_path / target)
        message = refused(lambda: repository.publish(folder, at(f"s3://{bucket}/one@v1")), InputError)  # noqa: B023
        assert f'"{name}" is a link' in message and "cp -rL" in message
    os.mkfifo(write(tmp_path / "with-pipe", {"a": b"1"}) / "pipe")
    message = refused(
        lambda: repository.publish(tmp_path / "with-pipe", at(f"s3://{bucket}/one@v1")), InputError
    )
    assert '"pipe" is no regular file' in message
    # A folder may well be named by a link.
    (tmp_path / "latest").symlink_to(tmp_path / "elsewhere")
    repository.publish(tmp_path / "latest", at(f"s3://{bucket}/one@v1"))


def test_a_folder_with_something_in_it_is_not_overwritten(bucket: str, tmp_path: Path) -> None:
    repository.publish(write(tmp_path / "folder", {"a": b"1"}), at(f"s3://{bucket}/one@v1"))
    there = write(tmp_path / "there", {"mine": b"2"})
    assert "exists already" in refused(
        lambda: repository.fetch(at(f"s3://{bucket}/one@v1"), there), InputError
    )
    assert contents(there) == {"mine": b"2"}


def test_a_disk_without_room_is_named_before_the_transfer(bucket: str, tmp_path: Path) -> None:
    repository.publish(write(tmp_path / "folder", {"a": os.urandom(2_000_000)}), at(f"s3://{bucket}/one@v1"))
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "1m"):
        message = refused(lambda: repository.fetch(at(f"s3://{bucket}/one@v1"), disk / "out"), StorageError)
        assert "needs 2 MB, but the disk of" in message
        assert list(disk.iterdir()) == []


# Credentials


def test_credentials_come_from_a_mounted_secret_or_a_file_and_the_source_is_named_when_wrong(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    access, secret = WRITER
    file = tmp_path / "home" / ".aws" / "credentials"
    file.parent.mkdir(parents=True)
    file.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
    assert repository.versions(bucket) == []
    file.write_text(f"[work]\naws_access_key_id = {access}\naws_secret_access_key = not-it\n")
    assert "none were found" in refused(lambda: repository.versions(bucket))
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert f"come from profile 'work' of {file}" in refused(lambda: repository.versions(bucket))
    monkeypatch.setenv("AWS_PROFILE", "home")
    assert "has no profile 'home'" in refused(lambda: repository.versions(bucket))
    file.write_text(f"aws_secret_access_key = {secret}\n")
    assert "cannot be read as a credentials file" in refused(lambda: repository.versions(bucket))
    for names in (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("accesskey", "secretkey")):
        mounted = write(tmp_path / names[0], {names[0]: access.encode(), names[1]: secret.encode() + b"\n"})
        monkeypatch.setenv("MINIML_S3_SECRET", str(mounted))
        assert repository.versions(bucket) == []
    write(mounted, {"secretkey": b"not-it"})
    assert f"come from the secret in {mounted}" in refused(lambda: repository.versions(bucket))
    shutil.rmtree(mounted)
    assert "has no readable files" in refused(lambda: repository.versions(bucket))


def test_credentials_come_from_the_platform_where_it_gives_them(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = {"AccessKeyId": WRITER[0], "SecretAccessKey": WRITER[1], "Token": ""}
            body = json.dumps({**given, "Expiration": "2100-01-01T00:00:00Z"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as agent:
        threading.Thread(target=agent.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{agent.server_port}/role"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
        assert repository.versions(bucket) == []
        agent.shutdown()


def test_no_secret_gets_into_logs_output_or_what_is_kept(
    bucket: str,
    client: Minio,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # urllib3's level by name, for the Kubernetes client, where it was used before, has raised it.
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "urllib3"):
        repository.publish(write(tmp_path / "folder", {"a": b"1"}), at(f"s3://{bucket}/one@v1"))
        repository.cached("model_id", at(f"s3://{bucket}/one@v1"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
        refused(lambda: repository.cached("model_id", at(f"s3://{bucket}/one@v1")))
    assert bucket in caplog.text
    kept = [
        client.get_object(bucket, str(i.object_name)) for i in client.list_objects(bucket, recursive=True)
    ]
    everything = [caplog.text.encode(), *"".join(capfd.readouterr()).encode().splitlines()]
    everything += [answer.read() for answer in kept] + list(contents(tmp_path / "cache").values())
    for answer in kept:
        answer.close()
    assert not any(WRITER[1].encode() in text for text in everything)


# The command line


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "miniml.store", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )


def test_the_command_line_publishes_lists_and_fetches(bucket: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"a": b"1"})
    published = command("publish", folder, f"s3://{bucket}/one@v1")
    assert published.returncode == 0, published.stderr
    assert "sent 1 of 1 files" in published.stdout and "had the others" not in published.stdout
    by_digest = published.stdout.splitlines()[-1]
    listed = command("list", f"s3://{bucket}").stdout
    assert [line.split("\t")[0] for line in listed.splitlines()] == ["one@latest", "one@v1"]
    assert by_digest.partition("@")[2][:19] in listed
    fetched = command("fetch", by_digest, tmp_path / "out")
    assert fetched.stdout.splitlines()[-1] == str(tmp_path / "out")
    assert contents(tmp_path / "out") == {"a": b"1"}


def test_the_command_line_ends_with_a_sentence_and_status_1(bucket: str, tmp_path: Path) -> None:
    ended = command("fetch", f"s3://{bucket}/one@v1", tmp_path / "out")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: s3://{bucket}/one@v1: bucket '{bucket}' has no entry")
    assert "Traceback" not in ended.stderr
    assert "no such file or folder" in command("publish", tmp_path / "no", f"s3://{bucket}/one@v1").stderr
    assert "names no version" in command("publish", tmp_path, f"s3://{bucket}/one").stderr
    command("publish", write(tmp_path / "folder", {"a": b"1"}), f"s3://{bucket}/one@v1")
    ended = command("fetch", f"s3://{bucket}/one@v1", "/proc/no/such")
    assert ended.returncode == 1
    assert "/proc/no" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_keys_with_signs_that_mean_something_in_addresses_come_and_are_recorded(
    client: Minio, bucket: str, tmp_path: Path
) -> None:
    for number, key in enumerate(("a@b.csv", "really? 100%/#1.csv", "%40.csv")):
        put(client, bucket, key, key.encode())
        fetched = repository.fetch(at(str(S3Address(bucket, key))), tmp_path / f"{number}")
        assert fetched.path.read_bytes() == key.encode()
        again = repository.fetch(at(fetched.source), tmp_path / f"{number} again")
        assert again.path.read_bytes() == key.encode()


def test_a_folder_can_be_put_where_somebody_else_has_chosen(
    client: Minio, bucket: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", {"a/weights": b"1", "miniml.json": b"{}", "z": b"2"})
    repository.put(folder, at(f"s3://{bucket}/run/model"))
    (folder / "z").write_bytes(b"3")
    repository.put(folder, at(f"s3://{bucket}/run/model"))
    keys = {str(item.object_name) for item in client.list_objects(bucket, recursive=True)}
    assert keys == {"run/model/a/weights", "run/model/miniml.json", "run/model/z"}
    brought = repository.fetch(at(f"s3://{bucket}/run/model"), tmp_path / "brought")
    assert (brought.path / "z").read_bytes() == b"3"


def test_a_pointer_that_nobody_can_read_hides_no_other_entry(
    bucket: str, tmp_path: Path, client: Minio, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.csv").write_text("text,label\n")
    repository.publish(tmp_path / "one.csv", S3Address(bucket, "listed", "v1"))
    client.put_object(bucket, "miniml/names/broken@v1", io.BytesIO(b""), 0)
    assert "listed" in {found.name for found in repository.versions(bucket)}
    assert "left out: " in capsys.readouterr().out
