"""Adds the services that gRPC's tools expect of any server, health and reflection, and limits the open streams."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc  # type: ignore[import-untyped]
from grpc import StatusCode, aio
from grpc_health.v1 import health  # type: ignore[import-untyped]
from grpc_health.v1.health_pb2 import HealthCheckResponse  # type: ignore[import-untyped]
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]
from kserve.protocol.dataplane import DataPlane

from .interceptors import Continuation

INFERENCE = "inference.GRPCInferenceService"
HEALTH_NAMES = (health.OVERALL_HEALTH, INFERENCE)
POLL_INTERVAL_S = 1.0
MAX_STREAMS = 16
"""The number of streams that may be open at a time, since the client decides how long each of them lasts."""


class HealthService:
    """Serves gRPC's health protocol, which reports whether every model is ready, as the probes over HTTP do."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane
        self._servicer = health.aio.HealthServicer()
        self._polling: asyncio.Task[None] | None = None

    async def start(self, server: aio.Server) -> None:
        """Adds health and reflection to `server`, before it listens."""
        add_HealthServicer_to_server(self._servicer, server)
        names = (INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        await self._update()
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Reports from now on that the server takes no calls."""
        if self._polling:
            self._polling.cancel()
        await self._servicer.enter_graceful_shutdown()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            await self._update()

    async def _update(self) -> None:
        ready = await self._data_plane.ready()
        status = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        for name in HEALTH_NAMES:
            await self._servicer.set(name, status)


class StreamLimit(aio.ServerInterceptor):  # type: ignore[misc]
    """Limits the number of streams that are open at a time."""

    def __init__(self) -> None:
        self._open = 0

    async def intercept_service(
        self, continuation: Continuation, call: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Returns a handler that refuses a stream beyond the limit with RESOURCE_EXHAUSTED.

        Args:
            continuation: Calls the next interceptor.
            call: The method that is called, and its metadata.
        """
        handler = await continuation(call)
        if handler is None or not handler.response_streaming:
            return handler
        serve = handler.stream_stream or handler.unary_stream

        async def answer(request: Any, context: aio.ServicerContext) -> None:
            if self._open >= MAX_STREAMS:
                await context.abort(StatusCode.RESOURCE_EXHAUSTED, "too many streams are open.")
            self._open += 1
            context.add_done_callback(self._end)
            replies = serve(request, context)
            if hasattr(replies, "__aiter__"):
                async for reply in replies:
                    await context.write(reply)
            else:
                await replies

        make_handler = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        return make_handler(answer, handler.request_deserializer, handler.response_serializer)

    def _end(self, _: aio.ServicerContext) -> None:
        self._open -= 1
