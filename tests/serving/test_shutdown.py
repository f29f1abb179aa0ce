"""SIGTERM: whoever the predictor has let in is answered, and then it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.rest import ignore_newcomers
from tests import patience
from tests.load import full_load
from tests.predictor import Server, held_until, infer_message, running, told_since_start

ENOUGH = 20  # answers of each kind of client, so that all of them are under way


@pytest.fixture
def own_server(tiny_model: Path, tmp_path: Path) -> Iterator[Server]:
    """One that a test may stop."""
    with running(tiny_model, tmp_path / "log", "--no-access-log") as server:
        yield server


def test_no_request_fails_when_sigterm_comes_under_load(own_server: Server) -> None:
    with full_load(own_server) as load:
        patience.wait_until(lambda: min(load.answered.values()) >= ENOUGH)
        before = load.answered.total()
        own_server.process.send_signal(signal.SIGTERM)
        assert own_server.process.wait(timeout=patience.SECONDS) == 0
    assert load.failures == []
    assert load.answered.total() > before
    assert told_since_start(own_server) == ""


def test_what_is_under_way_is_answered(tiny_model: Path, tmp_path: Path) -> None:
    texts = [f"{number} was a very dirty place " * 20 for number in range(1_000)]
    go = tmp_path / "go"
    with (
        running(tiny_model, tmp_path / "log", program=held_until(go)) as held,
        ThreadPoolExecutor() as pool,
    ):
        rest = pool.submit(held.v1, texts)
        rpc = pool.submit(held.grpc.ModelInfer, infer_message([f"so {text}" for text in texts]))
        patience.wait_until(lambda: "miniml_queue_texts 2000.0" in held.get("/metrics").text)
        held.process.send_signal(signal.SIGTERM)
        go.touch()
        assert len(rest.result().json()["predictions"]) == 1_000
        assert rpc.result().outputs[0].shape == [1_000]
        assert held.process.wait(timeout=patience.SECONDS) == 0


def test_who_is_connected_is_still_accepted_after_newcomers_are_ignored() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as waiting:
            ignore_newcomers(listener.fileno())
            with socket.socket() as newcomer:
                newcomer.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    newcomer.connect(address)
            waiting.sendall(b"here")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(4) == b"here"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_connections_are_used_until_they_are_said_to_end_and_silent_ones_keep_nobody(
    own_server: Server,
) -> None:
    host, _, http_port = own_server.url.removeprefix("http://").rpartition(":")
    grpc_port = own_server.grpc_address.rpartition(":")[2]
    with contextlib.ExitStack() as stack:
        for port in (http_port, grpc_port):
            stack.enter_context(socket.create_connection((host, int(port))))
        connection = stack.enter_context(contextlib.closing(http.client.HTTPConnection(host, int(http_port))))
        connection.connect()
        own_server.process.send_signal(signal.SIGTERM)
        said: str | None = None
        while said != "close":
            connection.request("POST", "/predict", json.dumps({"text": "good"}))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            said = answer.getheader("connection")
        assert own_server.process.wait(timeout=patience.SECONDS) == 0
