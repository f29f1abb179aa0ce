"""Logs each request to the model: metrics, and one line of JSON without its texts."""

from __future__ import annotations

import json
import logging
import math
import queue
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from logging.handlers import QueueHandler, QueueListener
from typing import Any

import grpc  # type: ignore[import-untyped]
from fastapi.responses import JSONResponse
from grpc import StatusCode, aio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import deadline
from .metrics import LATENCY, REQUESTS

ID_HEADER = "x-request-id"
TIMEOUT_HEADER = "x-request-timeout"
PROTOCOLS = {
    "v1": re.compile(r"/v1/models/[^/]+:predict"),
    "v2": re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer"),
    "predict": re.compile(r"/predict"),
    "explain": re.compile(r"/explain"),
}
INFER = "/inference.GRPCInferenceService/ModelInfer"
VALID_ID = re.compile(r"[!-~]{1,128}")
# The number of lines that may wait for a slow reader of standard output; further lines are dropped.
MAX_BUFFERED_LINES = 10_000

OUTCOMES = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded",
    StatusCode.OK: "ok",
    StatusCode.INVALID_ARGUMENT: "invalid",
    StatusCode.NOT_FOUND: "invalid",
    StatusCode.UNAUTHENTICATED: "unauthorized",
    StatusCode.UNAVAILABLE: "overloaded",
    StatusCode.DEADLINE_EXCEEDED: "overloaded",
    StatusCode.RESOURCE_EXHAUSTED: "too_large",
    StatusCode.CANCELLED: "hung_up",
}

request_logger = logging.getLogger(f"{__package__}.requests")


@dataclass
class RequestRecord:
    """The log record of one request."""

    protocol: str
    request_id: str
    texts: int = 0
    """The number of its texts."""
    cached: int = 0
    """The number of its texts that the cache answered."""
    began: float = field(default_factory=time.perf_counter)

    def end(self, outcome: str) -> None:
        """Counts the request and logs its line."""
        seconds = time.perf_counter() - self.began
        REQUESTS.labels(self.protocol, outcome).inc()
        LATENCY.labels(self.protocol).observe(seconds)
        if request_logger.isEnabledFor(logging.INFO):
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request_id": self.request_id,
                "protocol": self.protocol,
                "outcome": outcome,
                "texts": self.texts,
                "cached": self.cached,
                "ms": round(seconds * 1_000, 1),
            }
            request_logger.info(json.dumps(line))


current_record: ContextVar[RequestRecord | None] = ContextVar("current", default=None)
"""The record of the current request, to which inference adds."""


def request_id(given: str | None) -> str:
    """Returns the client's id for the request where it is valid in a header and a log, or else a new one."""
    return given if given and VALID_ID.fullmatch(given) else uuid.uuid4().hex


class RequestLogging:
    """Middleware that logs REST requests to the model, and sets their deadlines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        protocol = _protocol(scope)
        if not protocol:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = RequestRecord(protocol, request_id(headers.get(ID_HEADER)))
        status = 0

        async def tracking_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = record.request_id
            await send(message)

        current_record.set(record)
        try:
            seconds = _seconds(headers.get(TIMEOUT_HEADER))
            if seconds is None:
                await _bad_timeout(scope, receive, tracking_send)
                return
            deadline.begin(seconds if math.isfinite(seconds) else None)
            await self._app(scope, receive, tracking_send)
        finally:
            record.end(_outcome(status))


def _protocol(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return next((name for name, path in PROTOCOLS.items() if path.fullmatch(scope["path"])), None)


def _outcome(status: int) -> str:
    if status in OUTCOMES:
        return OUTCOMES[HTTPStatus(status)]
    return {0: "hung_up", 2: "ok", 4: "invalid"}.get(status // 100, "failed")


def _seconds(header: str | None) -> float | None:
    """Returns the seconds that the header gives, infinite where it is absent, None where it is invalid."""
    if header is None:
        return math.inf
    try:
        seconds = float(header)
    except ValueError:
        return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None


_bad_timeout = JSONResponse(
    {
        "error": f"the header {TIMEOUT_HEADER} is no time. Send the seconds that you can wait, a number above 0."
    },
    HTTPStatus.BAD_REQUEST,
)


class GrpcRequestLogging(aio.ServerInterceptor):  # type: ignore[misc]
    """Logs V2 requests over gRPC, where the id is the metadata `x-request-id`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        call: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(call)
        if handler is None or call.method != INFER:
            return handler
        given = dict(call.invocation_metadata or ()).get(ID_HEADER)

        async def answer(request: Any, context: aio.ServicerContext) -> Any:
            record = RequestRecord("grpc", request_id(str(given) if given else None))
            current_record.set(record)
            await context.send_initial_metadata(((ID_HEADER, record.request_id),))
            outcome = "hung_up"
            try:
                reply = await handler.unary_unary(request, context)
                outcome = "ok"
                return reply
            except Exception:
                outcome = OUTCOMES.get(context.code(), "failed")
                raise
            finally:
                record.end(outcome)

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )


class _DroppingQueueHandler(QueueHandler):
    """Hands lines to a thread that writes them, so that a slow pipe does not block the event loop."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self.queue.put_nowait(record)


@contextmanager
def access_log(wanted: bool) -> Iterator[None]:
    """Writes the lines of requests to standard output until the context ends, if they are wanted."""
    request_logger.propagate = False
    request_logger.setLevel(logging.INFO if wanted else logging.CRITICAL)
    lines: queue.Queue[Any] = queue.Queue(MAX_BUFFERED_LINES)
    handler = _DroppingQueueHandler(lines)
    listener = QueueListener(lines, logging.StreamHandler(sys.stdout))
    request_logger.addHandler(handler)
    listener.start()
    try:
        yield
    finally:
        request_logger.removeHandler(handler)
        listener.stop()
