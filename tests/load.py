"""Clients that keep a predictor busy over every protocol, and note each request that was not answered."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests import patience
from tests.predictor import NAME, Server, infer_message
from tests.tiny import review

# Otherwise channels of one process to one address would share a connection.
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
REFUSED = "Failed to connect to remote host"


@dataclass
class Load:
    """What became of the requests, by kind of client."""

    server: Server
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _number: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    def text(self) -> str:
        """One that was not sent before, so that no cache answers it."""
        number = next(self._number)
        return review(number % 2, number)

    def kept_http(self, kind: str, ask: Callable[[Load, http.client.HTTPConnection], int]) -> None:
        """Asks over one connection for as long as the server keeps it, and then over the next."""
        while not self.over.is_set():
            if (connection := self._connected()) is None:
                return
            while not self.over.is_set() and connection.sock is not None:
                self._note_http(kind, connection, ask)
            connection.close()

    def new_http(self, kind: str, ask: Callable[[Load, http.client.HTTPConnection], int]) -> None:
        """Asks over a new connection each time."""
        while not self.over.is_set():
            if (connection := self._connected()) is None:
                return
            self._note_http(kind, connection, ask)
            connection.close()

    def kept_grpc(self, kind: str, raw: bool) -> None:
        """Asks over one channel until the server is gone."""
        with grpc.insecure_channel(self.server.grpc_address, options=OWN_CONNECTION) as channel:
            while not self.over.is_set() and self._note_grpc(kind, channel, raw):
                pass

    def new_grpc(self, kind: str, raw: bool) -> None:
        """Asks over a new channel each time."""
        while not self.over.is_set():
            with grpc.insecure_channel(self.server.grpc_address, options=OWN_CONNECTION) as channel:
                if not self._note_grpc(kind, channel, raw):
                    return

    def _connected(self) -> http.client.HTTPConnection | None:
        connection = http.client.HTTPConnection(
            self.server.url.removeprefix("http://"), timeout=patience.SECONDS
        )
        try:
            connection.connect()
        except ConnectionRefusedError:
            return None
        return connection

    def _note_http(
        self,
        kind: str,
        connection: http.client.HTTPConnection,
        ask: Callable[[Load, http.client.HTTPConnection], int],
    ) -> None:
        try:
            status = ask(self, connection)
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(f"{kind}: {error!r}")
            connection.close()
            return
        if status == 200:
            self.answered[kind] += 1
        else:
            self.failures.append(f"{kind}: {status}")

    def _note_grpc(self, kind: str, channel: grpc.Channel, raw: bool) -> bool:
        """Whether the server is still there."""
        try:
            GRPCInferenceServiceStub(channel).ModelInfer(
                infer_message([self.text()], raw=raw), timeout=patience.SECONDS
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or REFUSED not in error.details():
                self.failures.append(f"{kind}: {error.code()} {error.details()}")
            return False
        self.answered[kind] += 1
        return True


def v1(load: Load, connection: http.client.HTTPConnection) -> int:
    return _posted(connection, f"/v1/models/{NAME}:predict", {"instances": [load.text()]})


def v2(load: Load, connection: http.client.HTTPConnection) -> int:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [load.text()]}
    return _posted(connection, f"/v2/models/{NAME}/infer", {"inputs": [tensor]})


def predict(load: Load, connection: http.client.HTTPConnection) -> int:
    return _posted(connection, "/predict", {"text": load.text()})


def live(load: Load, connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/v2/health/live")
    return _status(connection)


def _posted(connection: http.client.HTTPConnection, path: str, body: Any) -> int:
    connection.request("POST", path, json.dumps(body))
    return _status(connection)


def _status(connection: http.client.HTTPConnection) -> int:
    response = connection.getresponse()
    response.read()
    return response.status


@contextmanager
def full_load(server: Server) -> Iterator[Load]:
    """Every kind of client at once; each ends when the server refuses it, or the context ends."""
    load = Load(server)
    clients: list[tuple[Callable[..., None], Any]] = [
        *((load.kept_http, ask) for ask in (v1, v2, predict, predict)),
        *((load.new_http, ask) for ask in (v1, v2, predict, predict, live, live, live, live)),
        *((load.kept_grpc, raw) for raw in (False, True) * 4),
        (load.new_grpc, False),
    ]
    threads = []
    for client, how in clients:
        kind = f"{client.__name__} {how if isinstance(how, bool) else how.__name__}"
        load.answered[kind] = 0
        threads.append(threading.Thread(target=client, args=(kind, how)))
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join(timeout=patience.SECONDS)
