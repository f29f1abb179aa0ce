"""Serves V2 over gRPC with KServe's servicer, and our own interceptors, limits and errors.

KServe's own server has fixed interceptors and options, cannot encrypt, shares its port with any other process that asks
for it, and repeats in its errors what a client sent.
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
"""The seconds in which a call that was sent arrives, and in which a message of ours reaches the client."""
QUIET_TIMEOUT_S = 1.0
"""The most seconds to wait for such a period without calls: clients that do not wait for answers never leave one."""
CLOSE_TIMEOUT_S = 1.0
"""The seconds that answered connections stay open for their clients to acknowledge the end."""
DEADLINE_SLACK_S = 0.05
"""The seconds by which the client and the server may disagree on when its deadline passes."""

MAX_ENTRIES = 100
"""The number of entries that each list and map of a request may have, other than its texts."""
CALLS_PER_CONNECTION = 100
"""The number of calls that may run on one connection; its further calls wait."""


def interceptors(token: Token | None = None) -> list[aio.ServerInterceptor]:
    """Returns the interceptors of every call, outermost first."""
    asking = [GrpcAuthentication(token)] if token else []
    return [GrpcRequestLogging(), *asking, ErrorStatuses(), Deadlines()]


@dataclass(frozen=True)
class Certificate:
    """The files of the server's TLS certificate, both PEM."""

    chain: Path
    key: Path


class GrpcServer:
    """The server of V2 over gRPC."""

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
        """Starts to listen.

        Args:
            servicer: Answers V2's methods.
            health: Answers gRPC's health protocol.

        Raises:
            RuntimeError: The port is taken.
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
                # Two servers on one port would each answer some of the calls, without any warning.
                ("grpc.so_reuseport", 0),
                ("grpc.max_allowed_incoming_connections", self._connections.connections),
                ("grpc.max_metadata_size", self._connections.head_bytes),
                ("grpc.absolute_max_metadata_size", self._connections.head_bytes),
                ("grpc.server_handshake_timeout_ms", round(1_000 * self._connections.transfer_s)),
                # Closes connections without calls; their clients reconnect.
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
        """Takes no further calls, and returns once the running ones are answered.

        From the moment it is told to stop, gRPC refuses every call that reaches it, even from clients that do not know
        of the end yet. So answers are held back first, because a client that waits for one sends no further call. Once
        the calls on their way have arrived, gRPC tells every connection of the end, and then the answers are released.

        Args:
            grace_s: The seconds after which running calls are cancelled.
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
        # A client that is gone does not acknowledge the end; gRPC by itself would wait 20 s for it.
        await asyncio.wait([stopping], timeout=CLOSE_TIMEOUT_S)
        await self._server.stop(None)


class Servicer(InferenceServicer):  # type: ignore[misc]  # KServe ships no types
    """KServe's servicer, with stricter checks, and without the methods that load and unload models."""

    def __init__(self, data_plane: DataPlane, repository: ModelRepositoryExtension, limits: Limits) -> None:
        super().__init__(data_plane, repository)
        self._limits = limits

    def validate_grpc_request(self, request: messages.ModelInferRequest) -> None:
        """Refuses requests that KServe would fail on, or copy at great cost; its own errors repeat what clients sent.

        Raises:
            UnknownModel: The request asks for a version of the model.
            InvalidInput: The request is not one tensor of BYTES, or has too many entries.
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
        """Refuses to load a model."""
        await context.abort(StatusCode.PERMISSION_DENIED, f"no client may load a model. {REPOSITORY_REMEDY}")

    async def RepositoryModelUnload(self, request: Any, context: aio.ServicerContext) -> None:  # noqa: N802
        """Refuses to unload a model."""
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
    """Gives each error its status and our own message; gRPC's own messages quote the exception.

    It decodes the request itself, because one that cannot be decoded would otherwise fail before any interceptor.
    """

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Returns `handler` with our own errors."""

        async def answer(message: bytes, context: aio.ServicerContext) -> bytes:
            try:
                request = handler.request_deserializer(message)
                reply: bytes = handler.response_serializer(await handler.unary_unary(request, context))
            except aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, error)
                # Not reached, for abort raises, but type checkers do not know that.
                raise
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
            # gRPC's equivalent of Retry-After, which clients with a retry policy follow.
            pushback = ("grpc-retry-pushback-ms", str(1_000 * error.retry_after_s))
            await context.abort(StatusCode.UNAVAILABLE, str(error), (pushback,))
    logger.error("%s", error_trace(error))
    await context.abort(StatusCode.INTERNAL, "internal error")


def _deadline_passed(context: aio.ServicerContext) -> bool:
    """Tells whether the client's own deadline has passed."""
    remaining = context.time_remaining()
    return remaining is not None and remaining < DEADLINE_SLACK_S


class Deadlines(UnaryInterceptor):
    """Passes the client's deadline on to the predictor; gRPC itself cancels the call when it has passed."""

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Returns `handler` with the client's deadline set."""

        async def answer(request: Any, context: aio.ServicerContext) -> Any:
            deadline.begin(context.time_remaining())
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )


class CallTracker(UnaryInterceptor):
    """Tracks running and arriving calls, and can hold back their answers."""

    def __init__(self) -> None:
        self._released = asyncio.Event()
        self._released.set()
        self._came = asyncio.Event()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def intercept_service(
        self, continuation: Continuation, call: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        self._came.set()
        return await super().intercept_service(continuation, call)

    def wrap(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Returns `handler` with its calls counted, and its answers held back while that is asked for."""

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
        self._running += 1
        self._idle.clear()
        context.add_done_callback(self._end)

    def _end(self, _: aio.ServicerContext) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    def hold(self) -> None:
        """Holds back all answers from now on."""
        self._released.clear()

    def release(self) -> None:
        """Releases the answers."""
        self._released.set()

    async def wait_until_quiet(self) -> None:
        """Waits until no call has arrived for `QUIET_PERIOD_S`, or for `QUIET_TIMEOUT_S` at most."""
        for _ in range(round(QUIET_TIMEOUT_S / QUIET_PERIOD_S)):
            self._came.clear()
            await asyncio.sleep(QUIET_PERIOD_S)
            if not self._came.is_set():
                return

    async def wait_until_idle(self) -> None:
        """Waits until every call is answered."""
        await self._idle.wait()
