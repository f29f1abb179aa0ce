"""Runs KServe's model server with its two ports, REST and gRPC, which open and close together."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import uvloop
from kserve import Model, ModelServer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from .dataplane import BINARY_HEADER, ClosedRepository, StrictDataPlane
from .grpc_server import GrpcServer, Servicer
from .grpc_services import HealthService
from .rest import RestServer
from .settings import ServingSettings

# How long the event loop may keep an engine's thread from Python's lock. By Python's default of 5 ms, the thread waits
# for a tenth of a batch's time, in which its processor is idle.
SWITCH_INTERVAL_S = 0.0005


class Server(ModelServer):  # type: ignore[misc]  # KServe ships no types
    """Serves until SIGTERM, and then answers the requests that it has accepted.

    KServe's own stop unloads the model first, and answers the waiting requests that there is no model.

    Args:
        startup_message: Printed once both ports answer.
        grpc: The gRPC server; None leaves that port closed.
        settings: The server's settings.
        more: Arguments of KServe's ModelServer.
    """

    def __init__(
        self, startup_message: str, grpc: GrpcServer | None, settings: ServingSettings, **more: Any
    ) -> None:
        # Ours replaces KServe's gRPC server, which takes no interceptors.
        super().__init__(enable_grpc=False, **more)
        self.dataplane = StrictDataPlane(self.registered_models)
        self.model_repository_extension = ClosedRepository(self.registered_models)
        self._startup_message = startup_message
        self._grpc = grpc
        self._settings = settings

    def start(self, models: list[Model]) -> None:
        """Serves `models` until SIGTERM or SIGINT, and returns once every request is answered."""
        self._register_and_check_atleast_one_model_is_ready(models)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

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
    """Returns an event that SIGTERM and Ctrl-C set; a second Ctrl-C ends the process at once."""
    stop = asyncio.Event()

    def interrupt() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    return stop


class JsonContentType:
    """Middleware that sets the content type of every POST to JSON, because a bare `curl -d` calls its body a form.

    KServe would pass such a body on as bytes, and one of "application/json; charset=utf-8" as well. V2's binary form
    and cloud events keep their content type.
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
