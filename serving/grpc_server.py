"""V2 over gRPC: KServe's servicer behind interceptors, limits and errors of ours.

KServe's own server has its interceptors and options wired in, cannot encrypt, shares its port with whoever asks
for it too, and its errors repeat what a client sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from . import deadline
from .authentication import GrpcAuthentication, Token
from .dataplane import REPOSITORY_REMEDY, UnknownModel
from .errors import error_trace
from .grpc_services import HealthService, StreamLimit
from .inference import OverloadedError
from .interceptors import Continuation, ReceiveTimeout, UnaryInterceptor
from .limits import require_few
from .predictor import V2_REMEDY
from .request_log import GrpcRequestLogging
from .settings import ConnectionSettings, Limits
from .v2 import binary_texts

logger = logging.getLogger(__name__)

QUIET_PERIOD_S = 0.1
"""In which a call that a client had sent already has come in, and a message of ours has reached it."""
QUIET_TIMEOUT_S = 1.0
"""How long to wait for that quiet: a client that asks without waiting for answers never grants it."""
CLOSE_TIMEOUT_S = 1.0
"""How long connections stay that have had every answer, for their clients to say that they know of the end."""
DEADLINE_SLACK_S = 0.05
"""By how much an answer that the deadline has passed may come before the deadline, as clocks are."""

MAX_ENTRIES = 100
"""Entries that a request may have in any of its lists and maps, beside its texts."""
CALLS_PER_CONNECTION = 100
"""Calls that may be under way on one; a client's further calls wait for them."""


def interceptors(token: Token | None = None) -> list[aio.ServerInterceptor]:
    """What every call passes on its way in, outermost first."""
    asking = [GrpcAuthentication(token)] if token else []
    return [GrpcRequestLogging(), *asking, ErrorStatuses(), Deadlines()]


@dataclass(frozen=True)
class Certificate:
    """What the server proves with who it is; both files are PEM."""

    chain: Path
    key: Path


class GrpcServer:
    """One port that speaks V2 over gRPC."""

    def __init__(
        self,
        port: int,
        interceptors: Sequence[aio.ServerInterceptor],
        *,
        message_bytes: int,
        connections: ConnectionSettings = ConnectionSettings(),
        certificate: Certificate | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._interceptors = interceptors
        self._message_bytes = message_bytes
        self._connections = connections
        self._certificate = certificate
        self._calls = CallTracker()
        self._server: aio.Server | None = None
        self._health: HealthService | None = None

    async def start(self, servicer: InferenceServicer, health: HealthService) -> None:
        """Listens.

        Raises:
            RuntimeError: the port is taken.
        """
        self._server = aio.server(
            interceptors=[
                ReceiveTimeout(self._connections.transfer_s),
                StreamLimit(),
                *self._interceptors,
                self._calls,
            ],
            maximum_concurrent_rpcs=self._connections.connections,
            options=[
                ("grpc.max_receive_message_length", self._message_bytes),
                # Two servers at one port would each answer some of the calls, and nobody would be told.
                ("grpc.so_reuseport", 0),
                ("grpc.max_allowed_incoming_connections", self._connections.connections),
                ("grpc.max_metadata_size", self._connections.head_bytes),
                ("grpc.absolute_max_metadata_size", self._connections.head_bytes),
                ("grpc.server_handshake_timeout_ms", round(1_000 * self._connections.transfer_s)),
                # A connection without a call is told to come again.
                ("grpc.max_connection_idle_ms", round(1_000 * self._connections.transfer_s)),
                ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION),
            ],
        )
        add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        await health.start(self._server)
        self._health = health
        address = f"{self._host}:{self._port}"
        if self._certificate:
            pair = (self._certificate.key.read_bytes(), self._certificate.chain.read_bytes())
            self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            self._server.add_insecure_port(address)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Takes no further calls, and returns once those under way are answered, or cut off after `grace_s`.

        gRPC refuses what reaches it from the moment that it is told to stop, even on connections that do not know of
        it yet. Therefore answers are held back first: a client that waits for one sends no further call. When what
        was on its way has come, gRPC tells every connection, and then the answers are let go.
        """
        if not self._server:
            return
        if self._health:
            await self._health.stop()
        self._calls.hold()
        await self._calls.wait_until_quiet()
        stopping = asyncio.create_task(self._server.stop(grace_s))
        await asyncio.sleep(QUIET_PERIOD_S)
        self._calls.release()
        await asyncio.wait(
            [stopping, asyncio.create_task(self._calls.wait_until_idle())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        # A peer that is gone does not say that it knows; gRPC by itself would wait 20 s for it.
        await asyncio.wait([stopping], timeout=CLOSE_TIMEOUT_S)
        await self._server.stop(None)


class Servicer(InferenceServicer):  # type: ignore[misc]  # KServe ships no types
    """KServe's, strict where it lets a wrong request through, and without its doors to the model repository."""

    def __init__(self, data_plane: DataPlane, repository: ModelRepositoryExtension, limits: Limits) -> None:
        super().__init__(data_plane, repository)
        self._limits = limits

    def validate_grpc_request(self, request: messages.ModelInferRequest) -> None:
        """Refuses what KServe would fail on, or copy a million of; its own refusals repeat names of the client's.

        Raises:
            UnknownModel: a version of the model was asked for.
            InvalidInput: the request is not one tensor of BYTES.
        """
        if request.model_version:
            raise UnknownModel("models have no versions here. Leave model_version out.")
        raw = len(request.raw_input_contents)
        if len(request.inputs) != 1:
            raise InvalidInput(f"the request has {len(request.inputs)} inputs. {V2_REMEDY}")
        if request.inputs[0].datatype != "BYTES":
            raise InvalidInput(f"inputs[0] has a datatype other than BYTES. {V2_REMEDY}")
        if raw > 1:
            raise InvalidInput(f"raw_input_contents holds {raw} tensors for 1 input. {V2_REMEDY}")
        if raw and request.inputs[0].HasField("contents"):
            raise InvalidInput("inputs[0] has contents beside raw_input_contents. Send one of the two.")
        require_few(self._limits, len(request.inputs[0].contents.bytes_contents))
        for tensor in request.raw_input_contents:
            binary_texts(tensor, self._limits)
        _require_few_entries(request)

    async def RepositoryModelLoad(self, request: Any, context: aio.ServicerContext) -> None:  # noqa: N802
        await context.abort(StatusCode.PERMISSION_DENIED, f"no client may load a model. {REPOSITORY_REMEDY}")

    async def RepositoryModelUnload(self, request: Any, context: aio.ServicerContext) -> None:  # noqa: N802
        await context.abort(
            StatusCode.PERMISSION_DENIED, f"no client may unload a model. {REPOSITORY_REMEDY}"
        )


def _require_few_entries(request: messages.ModelInferRequest) -> None:
    (tensor,) = request.inputs
    for place, values in (
        ("outputs", request.outputs),
        ("parameters", request.parameters),
        ("inputs[0].shape", tensor.shape),
        ("inputs[0].parameters", tensor.parameters),
        *(
            (f"outputs[{at}].parameters", one.parameters)
            for at, one in enumerate(request.outputs[:MAX_ENTRIES])
        ),
    ):
        if len(values) > MAX_ENTRIES:
            raise InvalidInput(f"{place} has {len(values)} entries, of {MAX_ENTRIES} that it may have.")


class ErrorStatuses(UnaryInterceptor):
    """Gives each failure its status and a text of ours; gRPC's own texts quote the exception.

    It reads the request itself, because what is no message at all fails before any interceptor is asked.
    """

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The same handler, whose failures are told in our words."""

        async def answer(message: bytes, context: aio.ServicerContext) -> bytes:
            try:
                request = handler.request_deserializer(message)
                reply: bytes = handler.response_serializer(await handler.unary_unary(request, context))
            except aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, error)
                raise  # abort has raised already
            return reply

        return grpc.unary_unary_rpc_method_handler(answer)


async def _abort(context: aio.ServicerContext, error: Exception) -> None:
    match error:
        case InvalidInput():
            await context.abort(StatusCode.INVALID_ARGUMENT, error.reason)
        case DecodeError():
            await context.abort(StatusCode.INVALID_ARGUMENT, "the request is not the message of this method.")
        case ModelNotFound():
            await context.abort(StatusCode.NOT_FOUND, error.reason)
        case ModelNotReady():
            await context.abort(StatusCode.UNAVAILABLE, "the model is not ready.")
        case OverloadedError() if _deadline_passed(context):
            await context.abort(StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the answer.")
        case OverloadedError():
            # gRPC's own Retry-After, which clients with a retry policy keep to.
            pushback = ("grpc-retry-pushback-ms", str(1_000 * error.retry_after_s))
            await context.abort(StatusCode.UNAVAILABLE, str(error), (pushback,))
    logger.error("%s", error_trace(error))
    await context.abort(StatusCode.INTERNAL, "internal error")


def _deadline_passed(context: aio.ServicerContext) -> bool:
    """Whether the client's own deadline has passed."""
    remaining = context.time_remaining()
    return remaining is not None and remaining < DEADLINE_SLACK_S


class Deadlines(UnaryInterceptor):
    """Tells the predictor how long the client still waits. gRPC itself cancels a call that it no longer waits for."""

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The same handler, within the client's deadline."""

        async def answer(request: Any, context: aio.ServicerContext) -> Any:
            deadline.begin(context.time_remaining())
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )


class CallTracker(UnaryInterceptor):
    """Can hold back every answer, and knows whether calls still come, and whether one is under way."""

    def __init__(self) -> None:
        self._released = asyncio.Event()
        self._released.set()
        self._came = asyncio.Event()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def intercept_service(
        self, continuation: Continuation, call: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        self._came.set()
        return await super().intercept_service(continuation, call)

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The same handler, counted while it is at work, its answer held back where that is asked for."""

        async def answer(request: Any, context: aio.ServicerContext) -> Any:
            self._begin(context)
            try:
                reply = await handler.unary_unary(request, context)
            except Exception:
                await self._released.wait()
                raise
            await self._released.wait()
            return reply

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    def _begin(self, context: aio.ServicerContext) -> None:
        self._under_way += 1
        self._idle.clear()
        context.add_done_callback(self._end)

    def _end(self, _: aio.ServicerContext) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    async def wait_until_quiet(self) -> None:
        """Returns when no call has come for a moment, or none of these moments came."""
        for _ in range(round(QUIET_TIMEOUT_S / QUIET_PERIOD_S)):
            self._came.clear()
            await asyncio.sleep(QUIET_PERIOD_S)
            if not self._came.is_set():
                return

    async def wait_until_idle(self) -> None:
        """Returns when every call has had its answer."""
        await self._idle.wait()
