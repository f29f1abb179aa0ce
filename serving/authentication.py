"""Checks an optional token on every route but health and metrics."""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from fastapi.responses import JSONResponse
from grpc import aio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from miniml.errors import InputError

VARIABLE = "MINIML_TOKEN"
# Exactly the router's paths: whatever merely looks like one of them requires the token.
OPEN_ROUTES = re.compile(
    r"/metrics|/v2/health/(live|ready)|/v2/models/[\w.-]+/ready|/v1/models/[\w.-]+", re.ASCII
)
OPEN_METHODS = frozenset(
    (
        *(f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady", "ModelReady")),
        "/grpc.health.v1.Health/Check",
    )
)
REMEDY = "Send the header 'Authorization: Bearer <token>'."


class Token:
    """The token that clients have to send.

    A token from a file is read again when the file changes, as Kubernetes does with mounted secrets.
    """

    def __init__(self, file: Path | None = None, value: str | None = None) -> None:
        self._file = file
        self._changed = 0
        self._token = (
            _checked(value, f"the variable {VARIABLE}") if file is None and value is not None else b""
        )
        if file is not None:
            self._read()

    @classmethod
    def of(cls, file: Path | None) -> Token | None:
        """Returns the token from `file`, or else from the environment, or None where there is neither.

        Raises:
            InputError: The file cannot be read, or its content is not a token.
        """
        value = os.environ.get(VARIABLE)
        return cls(file, value) if file is not None or value is not None else None

    def is_in(self, authorization: str) -> bool:
        """Tells whether a header's value holds the token, as a bearer token or as the password of any user.

        A browser can ask its user for a password, but not for a bearer token.
        """
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except ValueError:
                # The value is not base64, not UTF-8, or not even ASCII.
                return False
        elif scheme.lower() != "bearer":
            return False
        self._refresh()
        return hmac.compare_digest(given.strip().encode(), self._token)

    def _refresh(self) -> None:
        try:
            if self._file and self._file.stat().st_mtime_ns != self._changed:
                self._read()
        except (OSError, InputError):
            # The file is being replaced: the previous token holds until the new one can be read.
            pass

    def _read(self) -> None:
        assert self._file is not None
        try:
            changed, text = self._file.stat().st_mtime_ns, self._file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"token_file {self._file} cannot be read. Give a file that holds the token in one line."
            ) from error
        self._token, self._changed = _checked(text.strip(), f"token_file {self._file}"), changed


def _checked(token: str, source: str) -> bytes:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{source} holds no token. Put one there, of visible ASCII characters without spaces."
        )
    return token.encode()


class Authentication:
    """Middleware that refuses requests without the token, except to health and metrics."""

    def __init__(self, app: ASGIApp, token: Token) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "lifespan"
            or _is_open(scope)
            or self._token.is_in(Headers(scope=scope).get("authorization", ""))
        ):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = JSONResponse(
            {"error": f"the token is missing or wrong. {REMEDY}"},
            HTTPStatus.UNAUTHORIZED,
            {"www-authenticate": 'Bearer, Basic realm="the token as the password of any user"'},
        )
        await refusal(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] in ("GET", "HEAD")
        and OPEN_ROUTES.fullmatch(scope["path"]) is not None
    )


class GrpcAuthentication(aio.ServerInterceptor):  # type: ignore[misc]
    """Does the same over gRPC, where the token comes as the metadata `authorization`."""

    def __init__(self, token: Token) -> None:
        self._token = token

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        call: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        given = dict(call.invocation_metadata or ()).get("authorization", "")
        if call.method in OPEN_METHODS or self._token.is_in(str(given)):
            return await continuation(call)
        return grpc.unary_unary_rpc_method_handler(_refuse)


async def _refuse(_: bytes, context: aio.ServicerContext) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong. Send it as metadata 'authorization'."
    )
