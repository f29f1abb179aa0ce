"""Defines the base classes of the gRPC interceptors, and the outermost one, which waits for the request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
from grpc import StatusCode, aio

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]


def is_stream(handler: grpc.RpcMethodHandler) -> bool:
    """Tells whether a method streams, as those of health and reflection do, and none of V2's."""
    return bool(handler.request_streaming or handler.response_streaming)


class UnaryInterceptor(aio.ServerInterceptor):  # type: ignore[misc]
    """An interceptor of unary calls, as all of V2's are; streams and unknown methods pass through."""

    async def intercept_service(
        self, continuation: Continuation, call: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(call)
        return handler if handler is None or is_stream(handler) else self.wrap(handler)

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Returns the handler that answers in place of `handler`."""
        raise NotImplementedError


class ReceiveTimeout(UnaryInterceptor):
    """Aborts a call whose request does not arrive in time; gRPC by itself waits for as long as the client likes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Returns `handler` with a limit on the time to receive its request."""

        # A stream, because gRPC hands over a unary call only once its message has arrived.
        async def answer(requests: AsyncIterator[Any], context: aio.ServicerContext) -> Any:
            try:
                async with asyncio.timeout(self._seconds):
                    request = await anext(requests)
            except StopAsyncIteration:
                await context.abort(StatusCode.INVALID_ARGUMENT, "the call has no request.")
            except TimeoutError:
                late = f"the request was not here, to its end, within {self._seconds:g} s."
                await context.abort(StatusCode.DEADLINE_EXCEEDED, late)
            return await handler.unary_unary(request, context)

        return grpc.stream_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )
