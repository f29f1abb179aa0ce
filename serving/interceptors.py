"""What every interceptor of gRPC calls is handed, and the first of them, which waits for the request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
from grpc import StatusCode, aio

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]


def is_stream(handler: grpc.RpcMethodHandler) -> bool:
    """Whether a call is more than one message each way: those of health and reflection, none of V2's."""
    return bool(handler.request_streaming or handler.response_streaming)


class UnaryInterceptor(aio.ServerInterceptor):  # type: ignore[misc]
    """Stands around calls of one message each way, which are V2's; streams, and methods that are not there, pass."""

    async def intercept_service(
        self, continuation: Continuation, call: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(call)
        return handler if handler is None or is_stream(handler) else self.wrap(handler)

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """What answers in place of `handler`."""
        raise NotImplementedError


class ReceiveTimeout(UnaryInterceptor):
    """Ends a call whose request does not come: gRPC by itself waits for as long as the client says."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The same handler, given its request within the time."""

        # As a stream of one, since a call of one message is not handed over before it is there.
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
