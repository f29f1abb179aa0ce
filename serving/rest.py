"""Runs KServe's REST server, with a graceful stop that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer, TimingMiddleware, _RefreshingServer
from kserve.protocol.rest.v1_endpoints import V1Endpoints
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .connection import Connection, PendingConnections
from .settings import ServingSettings
from .v2 import inference_route

POLL_INTERVAL_S = 0.05
KEEP_ALIVE_GRACE_S = 1.0
"""The seconds that a connection without a request stays open. A client that then uses it gets an answer that tells it
to close the connection; a busy client's next request comes within milliseconds."""

ACCEPT_PERIOD_S = 0.1
"""The seconds until connections that were being opened are accepted."""

# Linux's number, which Python's socket module lacks.
SO_ATTACH_FILTER = 26
# A BPF program; each line has a code, the jumps if true and if false, and an operand.
WITHOUT_SYN = (
    (0x30, 0, 0, 13),  # load the byte of TCP's header that has the flags
    (0x45, 0, 1, 0x02),  # is the flag SYN set, which opens a connection?
    (0x06, 0, 0, 0),  # if so, drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # if not, keep all of it
)


class RestServer(RESTServer):  # type: ignore[misc]  # KServe ships no types
    """The server of V1, V2 and our own routes over HTTP."""

    def __init__(
        self,
        data_plane: DataPlane,
        repository: ModelRepositoryExtension,
        port: int,
        settings: ServingSettings,
        **more: Any,
    ) -> None:
        super().__init__(FASTAPI_APP_IMPORT_STRING, data_plane, repository, port, **more)
        self._limits = settings.limits
        self.config.http = partial(Connection, pending=PendingConnections(settings.connections))
        # KServe listens on all of the machine's addresses, and has no argument for it.
        self.config.host = settings.host
        # No route speaks WebSocket.
        self.config.ws = "none"
        self._server = Uvicorn(self.config)

    async def listens(self) -> None:
        """Waits until the port answers; uvicorn has no event for it."""
        while not self._server.started:
            await asyncio.sleep(POLL_INTERVAL_S)

    def stop(self) -> None:
        """Stops accepting connections; `start` returns when the open ones are served."""
        self._server.should_exit = True

    def _add_middlewares(self, app: FastAPI) -> None:
        super()._add_middlewares(app)
        # KServe's timings go to a log that is not written here, and cost two system calls a request.
        app.user_middleware = [each for each in app.user_middleware if each.cls is not TimingMiddleware]

    def _register_endpoints(self, app: FastAPI) -> None:
        # Comes before all others and without FastAPI, whose search for the route and for the function's arguments
        # takes a fifth of a request's time on the event loop.
        app.router.routes.insert(0, _v1_route(V1Endpoints(self.dataplane)))
        # Comes before KServe's own route, which would validate and report a million mistakes.
        app.include_router(inference_route(V2Endpoints(self.dataplane), self._limits))
        super()._register_endpoints(app)

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(NotImplementedError, _not_here)


def _v1_route(endpoints: V1Endpoints) -> Route:
    """Returns the route `POST /v1/models/{model_name}:predict`, which KServe's endpoint answers."""

    async def predict(request: Request) -> Response:
        answer: Response = await endpoints.predict(request.path_params["model_name"], request)
        return answer

    return Route("/v1/models/{model_name}:predict", predict, methods=["POST"])


async def _not_here(request: Request, _: Exception) -> JSONResponse:
    """Answers 404 where a client asks for what does not exist; KServe answers 501."""
    missing = "explainer" if request.url.path.endswith(":explain") else "versions of a model"
    return JSONResponse({"error": f"this server has no {missing}."}, HTTPStatus.NOT_FOUND)


class Uvicorn(_RefreshingServer):  # type: ignore[misc]
    """Uvicorn without signal handlers, and with a graceful stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing; the server handles signals for both ports."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops as uvicorn does, after a short time in which requests that are on their way arrive.

        Uvicorn by itself closes its port while connections wait to be accepted, and closes connections whose request
        has arrived but is not read yet. The kernel resets both, and their requests are lost.
        """
        for server in self.servers:
            for listener in server.sockets:
                ignore_newcomers(listener.fileno())
        await asyncio.sleep(ACCEPT_PERIOD_S)
        for server in self.servers:
            server.close()
        # From now on every answer closes its connection. Uvicorn's loop, which resets this list, has ended.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + KEEP_ALIVE_GRACE_S
        while self.server_state.connections and loop.time() < deadline:
            await asyncio.sleep(POLL_INTERVAL_S)
        await super().shutdown(sockets)


def ignore_newcomers(listener: int) -> None:
    """Makes a listening socket ignore new connections; those that wait there can still be accepted.

    Closing the socket would reset the waiting connections, though their clients are connected already. A new client
    gets no reply, tries again after a second, and is refused by then. In a pod the preStop sleep has the same effect,
    but `docker stop` and Ctrl-C have none (decision 36). Only Linux can do it; elsewhere nothing happens.

    Args:
        listener: The socket's file descriptor.
    """
    program = b"".join(struct.pack("HBBI", *line) for line in WITHOUT_SYN)
    buffer = ctypes.create_string_buffer(program)
    with socket.socket(fileno=os.dup(listener)) as same, contextlib.suppress(OSError):
        same.setsockopt(
            socket.SOL_SOCKET,
            SO_ATTACH_FILTER,
            struct.pack("HP", len(WITHOUT_SYN), ctypes.addressof(buffer)),
        )
