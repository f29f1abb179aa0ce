"""KServe's REST server, which can be told to stop, and then breaks no connection that a client may count on."""

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
from kserve.protocol.rest.server import RESTServer, _RefreshingServer
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.requests import Request

from serving.connection import Arrivals, Connection
from serving.settings import ServingSettings
from serving.v2 import inference_route

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_SAY_GOODBYE = 1.0
"""How long a connection without a request stays open, so that a client who is about to use it is answered, and
told on that answer to open no further ones. A busy client's next request comes within milliseconds."""

SECONDS_TO_ACCEPT = 0.1
"""In which connections that were being made are made, and accepted."""

SO_ATTACH_FILTER = 26  # of Linux; Python does not name it
# Each line: code, jump if true, jump if false, operand.
WITHOUT_SYN = (
    (0x30, 0, 0, 13),  # load the byte of TCP's header that holds its flags
    (0x45, 0, 1, 0x02),  # is SYN set, which asks for a connection?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else keep all of it
)


class RestServer(RESTServer):  # type: ignore[misc]  # KServe ships no types
    """One port that speaks V1 and V2 over HTTP, and our routes."""

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
        self.config.http = partial(Connection, arrivals=Arrivals(settings.connections))
        # KServe takes all of the machine's addresses, and no argument for it
        self.config.host = settings.host
        self.config.ws = "none"  # no route speaks it
        self._server = Uvicorn(self.config)

    async def listens(self) -> None:
        """Returns once the port answers; uvicorn has no hook for it."""
        while not self._server.started:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def stop(self) -> None:
        """Takes no further connections; `start` returns when those that there are have been served."""
        self._server.should_exit = True

    def _register_endpoints(self, app: FastAPI) -> None:
        # Before KServe's own, which finds and tells every mistake of a million, and so is not reached.
        app.include_router(inference_route(V2Endpoints(self.dataplane), self._limits))
        super()._register_endpoints(app)

    def _add_exception_handlers(self, app: FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(NotImplementedError, _not_here)


async def _not_here(request: Request, _: Exception) -> JSONResponse:
    """KServe calls it a fault of the server's (501), where a client asks for what there is not."""
    missing = "explainer" if request.url.path.endswith(":explain") else "versions of a model"
    return JSONResponse({"error": f"this server has no {missing}."}, HTTPStatus.NOT_FOUND)


class Uvicorn(_RefreshingServer):  # type: ignore[misc]
    """Leaves signals to its owner, and ends gently."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn's, after a while in which what is on its way can arrive.

        Uvicorn by itself closes its port while connections wait there to be accepted, and closes connections whose
        request has come but was not read yet; both are reset, and those requests lost.
        """
        for server in self.servers:
            for listener in server.sockets:
                ignore_newcomers(listener.fileno())
        await asyncio.sleep(SECONDS_TO_ACCEPT)
        for server in self.servers:
            server.close()
        # Every answer from now on closes its connection. The loop that renews this list has ended.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        loop = asyncio.get_running_loop()
        goodbye = loop.time() + SECONDS_TO_SAY_GOODBYE
        while self.server_state.connections and loop.time() < goodbye:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        await super().shutdown(sockets)


def ignore_newcomers(listener: int) -> None:
    """Lets no further connection be asked for at a listening socket; those that were are still accepted.

    Closing it instead resets what waits there, though the clients were told that they are connected. Who asks now is
    not answered, asks again after a second, and is refused by then. Linux only; elsewhere nothing happens.
    """
    program = b"".join(struct.pack("HBBI", *line) for line in WITHOUT_SYN)
    buffer = ctypes.create_string_buffer(program)
    with socket.socket(fileno=os.dup(listener)) as same, contextlib.suppress(OSError):
        same.setsockopt(
            socket.SOL_SOCKET,
            SO_ATTACH_FILTER,
            struct.pack("HP", len(WITHOUT_SYN), ctypes.addressof(buffer)),
        )
