"""Clients that take without asking: endless, unfinished and silent requests, in numbers, before any token is read."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import psutil
import pytest
import requests

from tests import patience
from tests.predictor import Server, running, told_since_start

CONNECTIONS = 20
HEAD_BYTES = 4_000
BODY_BYTES = 2**20
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
ENDLESS = {
    "a header": (POST + b"A: ", b"a" * 1_000),
    "headers": (POST, b"A: " + b"a" * 100 + b"\r\n"),
    "a path": (b"GET /", b"a" * 1_000),
    "extensions of a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 1_000),
    "trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: " + b"a" * 100 + b"\r\n"),
    "chunks of one byte": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "empty lines": (b"", b"\r\n" * 500),
}
UNFINISHED = {
    "nothing": b"",
    "a byte": b"P",
    "half a head": POST,
    "a body that lacks a byte": POST + b'Content-Length: 12\r\n\r\n{"text":"a"',
    "a body without its last chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "a request, and half a head": b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n" + POST,
}


@pytest.fixture(scope="module", params=["open", "token"])
def edge(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose limits are small, and that asks for a token or does not."""
    folder = tmp_path_factory.mktemp("edge")
    (folder / "token").write_text("correct-horse")
    words = [f"--max-connections={CONNECTIONS}", f"--max-head-bytes={HEAD_BYTES}", "--transfer-timeout=2"]
    words += [f"--max-body-bytes={BODY_BYTES}"]
    words += [f"--token-file={folder / 'token'}"] if request.param == "token" else []
    with running(tiny_model, folder / "log", *words) as server:
        yield server


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=patience.SECONDS)


def received(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def sent(client: socket.socket, piece: bytes, most: int) -> int:
    """How many bytes of endless pieces the server lets come, or `most`."""
    size = 0
    with contextlib.suppress(ConnectionError):
        while size < most:
            client.sendall(piece)
            size += len(piece)
    return size


def status_and_error(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def is_served(server: Server) -> bool:
    """Whether somebody else is answered meanwhile; what waits for its turn for 2 s is asked anew."""
    with contextlib.suppress(requests.ConnectionError):
        return server.get("/v2/health/live").ok
    return False


@pytest.mark.parametrize("what", ENDLESS)
def test_what_has_no_end_is_cut_off(edge: Server, what: str) -> None:
    head, piece = ENDLESS[what]
    with connect(edge) as client:
        client.sendall(head)
        # What lies in buffers between the two counts too.
        assert sent(client, piece, 2**26) < 2**26
    patience.wait_until(lambda: is_served(edge))


def test_a_head_over_the_limit_is_431_and_the_error_says_what_to_do(edge: Server) -> None:
    with connect(edge) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * HEAD_BYTES + b"\r\n\r\n")
        status, error = status_and_error(received(client))
    assert status == 431
    assert error.startswith(
        f"the request has more than the {HEAD_BYTES} bytes that one may have beside its body."
    )


def test_what_is_no_http_is_told_so_and_not_logged(edge: Server) -> None:
    before = told_since_start(edge)
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        with connect(edge) as client:
            client.sendall(nonsense)
            assert status_and_error(received(client)) == (
                400,
                "this is no request in HTTP/1.1, which is spoken here.",
            )
    assert told_since_start(edge) == before


@pytest.mark.parametrize("what", UNFINISHED)
def test_what_does_not_come_to_its_end_is_given_up(edge: Server, what: str) -> None:
    with connect(edge) as client:
        client.sendall(UNFINISHED[what])
        answer = received(client)  # ends, since the server closes
    last = answer[answer.rindex(b"HTTP/1.1 ") :]
    assert status_and_error(last)[0] in ((401, 408) if b"\r\n\r\n" in UNFINISHED[what] else (408,))


def test_connections_that_say_nothing_give_way_to_those_that_ask(edge: Server) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(edge)) for _ in range(15 * CONNECTIONS)]
        patience.wait_until(lambda: is_served(edge))
        # The first was closed for its age, and those after it to make room, without a word.
        assert not received(silent[5])


def test_an_answer_that_is_not_taken_is_given_up(edge: Server) -> None:
    times, size = 20, 1_500_000  # more than the kernel holds between the two
    ask = b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer correct-horse\r\n\r\n"
    with connect(edge) as client:
        client.sendall(ask * times)
        client.recv(100)
        patience.wait_until(lambda: client.getsockname() not in peers(edge))
        assert 0 < len(received(client)) < times * size


def peers(server: Server) -> set[Any]:
    """The addresses that the server holds connections with."""
    return {tuple(held.raddr) for held in psutil.net_connections("tcp4") if held.pid == server.process.pid}


def test_bodies_that_are_not_whole_hold_no_more_than_their_share(edge: Server) -> None:
    part = POST + f"Content-Length: {BODY_BYTES}\r\nAuthorization: Bearer correct-horse\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS - 1):
            client = stack.enter_context(connect(edge))
            client.sendall(part)
            with contextlib.suppress(ConnectionError):
                client.sendall(b"a" * (BODY_BYTES - 1))
        patience.wait_until(lambda: is_served(edge))


def test_a_call_whose_request_does_not_come_is_given_up(edge: Server) -> None:
    def nothing() -> Iterator[bytes]:
        over.wait(patience.SECONDS)
        yield from ()

    over = threading.Event()
    assert edge.channel
    ask = edge.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as refused:
        ask(nothing(), timeout=patience.SECONDS)
    over.set()
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "within 2 s" in refused.value.details()
