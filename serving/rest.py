"""KServe's REST server, which can be told to stop, and then breaks no connection that a client may count on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer, _RefreshingServer
from starlette.requests import Request

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_SAY_GOODBYE = 1.0
"""How long a connection without a request stays open, so that a client who is about to use it is answered, and
told on that answer to open no further ones. A busy client's next request comes within milliseconds."""


class RestServer(RESTServer):  # type: ignore[misc]  # KServe ships no types
    """One port that speaks V1 and V2 over HTTP, and our routes."""

    def __init__(
        self, data_plane: DataPlane, repository: ModelRepositoryExtension, port: int, **settings: Any
    ) -> None:
        super().__init__(FASTAPI_APP_IMPORT_STRING, data_plane, repository, port, **settings)
        self._server = Uvicorn(self.config)

    async def listens(self) -> None:
        """Returns once the port answers; uvicorn has no hook for it."""
        while not self._server.started:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def stop(self) -> None:
        """Takes no further connections; `start` returns when those that there are have been served."""
        self._server.should_exit = True

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
            server.close()
        # Every answer from now on closes its connection. The loop that renews this list has ended.
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        loop = asyncio.get_running_loop()
        goodbye = loop.time() + SECONDS_TO_SAY_GOODBYE
        while self.server_state.connections and loop.time() < goodbye:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        await super().shutdown(sockets)
