"""What the server refuses, what it keeps to itself, and who may ask at all."""

from __future__ import annotations

import json
import os
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
import requests
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from miniml.errors import InputError
from serving.authentication import Token
from tests import patience, tiny
from tests.predictor import NAME, Server, error_of, infer_message, refused_start, running

TOKEN = "correct-horse"
TEXT = "a review that is nobody else's business"
OPEN = ["/metrics", "/v2/health/live", "/v2/health/ready", f"/v2/models/{NAME}/ready", f"/v1/models/{NAME}"]
CLOSED = ["/", "/docs", "/openapi.json", "/v2", f"/v2/models/{NAME}", "/v1/models", "/nowhere"]
# Ways to write an open path so that a closed one is reached, or a closed one so that it looks open.
TRICKS = [
    "//metrics/../docs",
    "/metrics/../docs",
    "/metrics/%2e%2e/docs",
    "/DOCS",
    "/docs/",
    "/docs;/metrics",
    "/docs?/metrics",
    f"/v1/models/{NAME}:predict",
    f"/v2/models/{NAME}/ready/../infer",
    f"/v1/models/{NAME}%3Apredict",
    "/metrics%0a",
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_classifier(tmp_path_factory.mktemp("safe") / "model")


@pytest.fixture(scope="module")
def small(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits."""
    limits = ("--max-body-bytes=4000", "--max-texts=3", "--max-characters=100", "--queue-texts=2")
    with running(model_dir, tmp_path_factory.mktemp("log") / "small.log", *limits) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for a token."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN + "\n")
    with running(model_dir, tmp_path_factory.mktemp("log") / "guarded.log", f"--token-file={file}") as server:
        yield server


def test_a_body_over_the_limit_is_413_whether_or_not_its_length_is_announced(small: Server) -> None:
    body = json.dumps({"text": "x" * 5_000}).encode()
    for data in (body, iter([body[:3_000], body[3_000:]])):
        answer = requests.post(f"{small.url}/predict", data, timeout=patience.SECONDS)
        assert "larger than the 4000 bytes" in error_of(answer, 413)
        assert "--max_body_bytes" in answer.json()["error"]
    assert small.post("/predict", {"text": "still here"}).status_code == 200


def test_too_many_texts_and_too_long_ones_are_told_by_the_limit_over_every_protocol(small: Server) -> None:
    for answer in (small.v1(["a"] * 4), small.v2(["a"] * 4, [4])):
        assert "the request has 4 texts, of 3 that one may have" in error_of(answer, 400)
    long = "x" * 101
    for answer in (small.v1(["a", long]), small.v2(["a", long], [2]), small.post("/predict", {"text": long})):
        error = error_of(answer, 400)
        assert "has 101 characters, of 100 that one may have" in error
        assert "xxx" not in error
    for texts, message in ((["a"] * 4, "has 4 texts"), ([long], "has 101 characters")):
        with pytest.raises(grpc.RpcError) as refused:
            small.grpc.ModelInfer(infer_message(texts), timeout=patience.SECONDS)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert message in refused.value.details()


def test_a_full_queue_is_503_with_the_time_to_try_again(small: Server) -> None:
    answer = small.v1(["first", "second", "third"])  # more than may wait, and none of them in the cache
    assert "of the 2 that may" in error_of(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1
    with pytest.raises(grpc.RpcError) as refused:
        small.grpc.ModelInfer(infer_message(["first", "second", "fourth"]), timeout=patience.SECONDS)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_client_can_say_how_long_it_waits(small: Server) -> None:
    def ask(text: str, seconds: str) -> requests.Response:
        headers = {"X-Request-Timeout": seconds}
        return requests.post(
            f"{small.url}/predict", json={"text": text}, headers=headers, timeout=patience.SECONDS
        )

    assert ask("patient", str(patience.SECONDS)).status_code == 200
    assert "answer" in error_of(ask("in a hurry", "1e-9"), 503)
    for wrong in ("soon", "-1", "0", "nan", "inf"):
        assert "x-request-timeout is no time" in error_of(ask("confused", wrong), 400)


def test_the_work_of_a_client_that_hung_up_is_dropped(small: Server) -> None:
    address = small.url.removeprefix("http://").split(":")
    body = json.dumps({"instances": ["gone 1", "gone 2"]}).encode()
    head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection((address[0], int(address[1]))) as client:
            client.sendall(head.encode() + body)
    patience.wait_until(lambda: "miniml_queue_texts 0.0" in small.get("/metrics").text)
    assert small.v1(["a", "b"]).status_code == 200


def test_the_token_is_asked_for_everywhere_but_on_health_and_metrics(guarded: Server) -> None:
    for path in OPEN:
        assert guarded.get(path).status_code == 200, path
    for path in CLOSED:
        answer = guarded.get(path)
        assert "the token is missing or wrong" in error_of(answer, 401), path
        assert "Bearer" in answer.headers["www-authenticate"]
    for answer in (guarded.v1([TEXT]), guarded.v2([TEXT], [1]), guarded.post("/predict", {"text": TEXT})):
        error_of(answer, 401)


@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT"])
def test_no_spelling_of_a_path_gets_round_the_token(guarded: Server, path: str, method: str) -> None:
    host, port = guarded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=patience.SECONDS) as client:
        client.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        status = int(client.makefile("rb").readline().split()[1])
    assert status == 401


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        "Basic " + b64encode(f"anyone:{TOKEN}".encode()).decode(),
    ],
)
def test_the_token_opens_every_route(guarded: Server, authorization: str) -> None:
    headers = {"Authorization": authorization}
    for path in ("/docs", "/openapi.json", f"/v2/models/{NAME}"):
        assert requests.get(guarded.url + path, headers=headers, timeout=patience.SECONDS).status_code == 200
    answer = requests.post(
        f"{guarded.url}/predict", json={"text": TEXT}, headers=headers, timeout=patience.SECONDS
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Token {TOKEN}",
        TOKEN,
        "Basic !!!",
        "Basic " + b64encode(b"x").decode(),
        "Basic \xff",
        "Bearer \xff",
        "Basic " + b64encode(b":\xff").decode(),
    ],
)
def test_a_wrong_token_opens_nothing(guarded: Server, authorization: str) -> None:
    headers = {"Authorization": authorization}
    error_of(requests.get(f"{guarded.url}/docs", headers=headers, timeout=patience.SECONDS), 401)


def test_the_token_is_asked_for_over_grpc_too(guarded: Server) -> None:
    for call, request in (
        (guarded.grpc.ModelInfer, infer_message([TEXT])),
        (guarded.grpc.ModelMetadata, messages.ModelMetadataRequest(name=NAME)),
        (guarded.grpc.RepositoryModelUnload, messages.RepositoryModelUnloadRequest(model_name=NAME)),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(request, timeout=patience.SECONDS)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert guarded.grpc.ServerLive(messages.ServerLiveRequest(), timeout=patience.SECONDS).live
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    assert guarded.grpc.ModelInfer(infer_message([TEXT]), metadata=metadata, timeout=patience.SECONDS).outputs


def test_who_has_no_token_does_not_learn_what_is_served(guarded: Server) -> None:
    for path in ("/v1/models/zzz", "/v2/models/zzz/ready"):
        assert NAME not in guarded.get(path).text
    with pytest.raises(grpc.RpcError) as refused:
        guarded.grpc.ModelReady(messages.ModelReadyRequest(name="zzz"), timeout=patience.SECONDS)
    assert NAME not in refused.value.details()


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    token = Token(file)
    assert token.is_in("Bearer old")
    file.write_text("new")
    os.utime(file, ns=(1, 1))
    assert token.is_in("Bearer new")
    assert not token.is_in("Bearer old")
    file.unlink()
    assert token.is_in("Bearer new")  # while it is being replaced


@pytest.mark.parametrize("content", ["", "\n", "two words", "schlüssel"])
def test_a_token_that_nobody_could_send_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(InputError, match=r"token_file .*token holds no token"):
        Token(file)
    with pytest.raises(InputError, match="variable MINIML_TOKEN holds no token"):
        Token(value=content)


def test_a_token_file_that_is_absent_ends_the_start(model_dir: Path, tmp_path: Path) -> None:
    message = refused_start("--model-dir", str(model_dir), "--token-file", str(tmp_path / "none"))
    assert message.startswith(f"error: token_file {tmp_path / 'none'} cannot be read.")


def test_metrics_count_requests_by_protocol_and_outcome_and_name_the_model(small: Server) -> None:
    small.v1(["one more"])
    small.v1(["one more"])
    small.v1(["more", "than", "may wait"])
    small.post("/predict", {"text": "x" * 5_000})
    with pytest.raises(grpc.RpcError):
        small.grpc.ModelInfer(infer_message(["one more"] * 4), timeout=patience.SECONDS)
    metrics = small.get("/metrics").text
    for wanted in (
        'miniml_requests_total{outcome="ok",protocol="v1"}',
        'miniml_requests_total{outcome="invalid",protocol="grpc"}',
        'miniml_requests_total{outcome="too_large",protocol="predict"}',
        'miniml_requests_total{outcome="overloaded",protocol="v1"}',
        'miniml_request_seconds_count{protocol="v1"}',
        'miniml_predicted_total{label="',
        "miniml_batch_texts_count",
        "miniml_batch_tokens_count",
        "miniml_queue_wait_seconds_count",
        'miniml_model_info{digest="',
    ):
        assert wanted in metrics, wanted
    assert "miniml_cache_total{" not in metrics  # it would tell who may ask what others asked before


def test_no_review_is_left_in_a_log(small: Server, guarded: Server) -> None:
    for server in (small, guarded):
        for body in ({"instances": [{TEXT: TEXT}]}, {"instances": TEXT}, {TEXT: TEXT}):
            assert TEXT not in server.post(f"/v1/models/{NAME}:predict", body).text
        assert TEXT not in server.v2([TEXT, 5], [2], outputs=[{"name": TEXT}], **{TEXT: TEXT}).text
        assert TEXT not in server.post("/predict", {"text": [TEXT]}).text
        assert TEXT not in server.log.read_text()
