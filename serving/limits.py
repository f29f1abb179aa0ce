"""The largest request that is read, and what becomes of one whose client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from fastapi.responses import JSONResponse
from kserve.errors import InvalidInput
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.settings import Limits


def require_within(limits: Limits, texts: Sequence[str]) -> None:
    """Holds a request's texts against the limits, whatever protocol they came by.

    Raises:
        InvalidInput: too many texts, or too long a one; the message says which limit, and how to raise it.
    """
    if len(texts) > limits.texts:
        raise InvalidInput(
            f"the request has {len(texts)} texts, of {limits.texts} that one may have. "
            f"Send several requests, or start the server with a larger --max_texts."
        )
    for place, text in enumerate(texts):
        if len(text) > limits.characters:
            raise InvalidInput(
                f"text {place} has {len(text)} characters, of {limits.characters} that one may have. "
                f"Shorten it, or start the server with a larger --max_characters."
            )


class WholeBodies:
    """Reads a body before the application sees it, up to a limit, and drops the work of a client that hangs up.

    Read to the end, a request has nothing more to say than that its client has gone; uvicorn by itself
    lets the application work on.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        body = await self._body(scope, receive)
        if body is None:
            await self._refuse(scope, receive, send)
            return
        answering = asyncio.create_task(self._answer(scope, body, send))
        hanging_up = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait([answering, hanging_up], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                await asyncio.wait([answering])
            if not answering.cancelled():
                answering.result()  # what it raised, it raises
        finally:
            answering.cancel()
            hanging_up.cancel()

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        await self._app(scope, _Replay(body), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body, or None where it is over the limit or its client has gone."""
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._limit:
            return None
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            size, more = size + len(part), message.get("more_body", False)
            if size > self._limit:
                return None
            parts.append(part)
        return b"".join(parts)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = (
            f"the body is larger than the {self._limit} bytes that one may have. "
            f"Send several requests, or start the server with a larger --max_body_bytes."
        )
        # What is left of the body is not read, so the connection cannot be used again.
        headers = {"connection": "close"}
        answer = JSONResponse({"error": error}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers)
        await answer(scope, receive, send)


class _Replay:
    """Gives the application the body once, and then nothing: it is not the one to wait for the client's end."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
