"""KServe's model server on two ports, REST and gRPC, which open together and close together."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from kserve import Model, ModelServer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from .dataplane import BINARY_HEADER, ClosedRepository, StrictDataPlane
from .grpc_server import GrpcServer, Servicer
from .grpc_services import HealthService
from .rest import RestServer
from .settings import ServingSettings


class Server(ModelServer):  # type: ignore[misc]  # KServe ships no types
    """Serves, says so once both ports answer, and on SIGTERM finishes what it has taken on.

    KServe's own end unloads the model first, so that whatever still waits for it is told that there is none.
    """

    def __init__(
        self, startup_message: str, grpc: GrpcServer | None, settings: ServingSettings, **more: Any
    ) -> None:
        super().__init__(enable_grpc=False, **more)  # KServe's gRPC server cannot be furnished
        self.dataplane = StrictDataPlane(self.registered_models)
        self.model_repository_extension = ClosedRepository(self.registered_models)
        self._startup_message = startup_message
        self._grpc = grpc
        self._settings = settings

    def start(self, models: list[Model]) -> None:
        """Serves `models` until SIGTERM or SIGINT, and returns when every request is answered."""
        self._register_and_check_atleast_one_model_is_ready(models)
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        rest = RestServer(
            self.dataplane,
            self.model_repository_extension,
            self.http_port,
            self._settings,
            access_log_format=self.access_log_format,
            grace_period=self.grace_period,
            event_loop=self.event_loop,
            timeout_keep_alive=self.timeout_keep_alive,
            ssl_certfile=self.ssl_certfile,
            ssl_keyfile=self.ssl_keyfile,
        )
        if self._grpc:
            servicer = Servicer(self.dataplane, self.model_repository_extension, self._settings.limits)
            await self._grpc.start(servicer, HealthService(self.dataplane))
        serving = asyncio.create_task(rest.start())
        await rest.listens()
        stop_requested = _stop_event()
        print(self._startup_message, flush=True)
        await stop_requested.wait()
        rest.stop()
        await asyncio.gather(serving, *([self._grpc.stop(self.grace_period)] if self._grpc else []))


def _stop_event() -> asyncio.Event:
    """Is set by SIGTERM and Ctrl-C; a second Ctrl-C ends the process at once, answers or not."""
    told = asyncio.Event()

    def interrupt() -> None:
        if told.is_set():
            os._exit(1)
        told.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    return told


class JsonContentType:
    """Calls a body JSON whatever its sender called it: a bare `curl -d` says that it is a form.

    KServe would hand it on as bytes, as it does with "application/json; charset=utf-8". What is
    truly not JSON to its end keeps its name: V2's binary form, and cloud events.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and _is_plain(Headers(scope=scope)):
            MutableHeaders(scope=scope)["content-type"] = "application/json"
        await self._app(scope, receive, send)


def _is_plain(headers: Headers) -> bool:
    cloud_event = "ce-specversion" in headers or "cloudevents" in headers.get("content-type", "")
    return not cloud_event and BINARY_HEADER not in headers
