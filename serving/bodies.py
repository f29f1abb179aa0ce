"""A request's body: read whole, unpacked, and held against the limits before anything looks into it."""

from __future__ import annotations

import asyncio
import json
import zlib
from http import HTTPStatus

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.dataplane import BINARY_HEADER
from serving.settings import Limits

# zlib's own numbers for what it may find: gzip or zlib by their heads, and deflate without one, which HTTP's
# "deflate" should not be, and often is.
ANY_HEAD, NO_HEAD = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS
MAX_DIGITS = 18
UNPACKED = ("gzip", "x-gzip", "deflate")
VALUES_OF_A_TEXT = 16
"""That JSON may spend on one text: its own, and what a client sends beside it."""
VALUES_OF_A_REQUEST = 1_000
"""Beside those of its texts."""


class BodyError(Exception):
    """A body that is not handed on; the message says what to send instead."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class WholeBodies:
    """Reads a body before the application sees it, up to a limit, and drops the work of a client that hangs up.

    Read to the end, a request has nothing more to say than that its client has gone; uvicorn by itself
    lets the application work on.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        try:
            body = readable(await _body(headers, receive, self._limits.body_bytes), headers, self._limits)
        except ClientDisconnect:
            return  # nobody is there to be told
        except BodyError as refusal:
            # What may be left of the body is not read, so the connection cannot be used again.
            answer = JSONResponse({"error": str(refusal)}, refusal.status, {"connection": "close"})
            await answer(scope, receive, send)
            return
        del headers["content-encoding"]
        headers["content-length"] = str(len(body))
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


def is_length(header: str) -> bool:
    """Whether a header's value is a number of bytes that some body may have. Python reads none of many digits."""
    return header.isdecimal() and len(header) <= MAX_DIGITS


async def _body(headers: Headers, receive: Receive, most: int) -> bytes:
    """The body as it came.

    Raises:
        BodyError: it has more than `most` bytes.
        ClientDisconnect: it did not come to its end.
    """
    announced = headers.get("content-length", "0")
    if not is_length(announced) or int(announced) > most:
        raise _too_large(most)
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        part = message.get("body", b"")
        size, more = size + len(part), message.get("more_body", False)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def readable(body: bytes, headers: Headers, limits: Limits) -> bytes:
    """The body without its compression, and its JSON in UTF-8.

    Raises:
        BodyError: it cannot be unpacked, or its JSON holds far more values than a request needs.
    """
    body = unpacked(body, headers.get("content-encoding", ""), limits.body_bytes)
    if BINARY_HEADER in headers:
        _require_few_values(_json_part(body, headers[BINARY_HEADER]), limits)
        return body
    encoding = json.detect_encoding(body)
    if encoding != "utf-8":
        try:
            body = body.decode(encoding).encode()
        except UnicodeError as error:
            raise BodyError(HTTPStatus.BAD_REQUEST, "the body is not JSON in UTF-8.") from error
    _require_few_values(body, limits)
    return body


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """The body without the compression that its header tells of, at most `most` bytes.

    Raises:
        BodyError: it is compressed in another way, or not as the header says, or comes to more.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in UNPACKED:
        raise BodyError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body's Content-Encoding is not read here. Send it as it is, or with gzip or deflate.",
        )
    try:
        return _inflated(body, ANY_HEAD, most)
    except zlib.error:
        pass
    try:
        return _inflated(body, NO_HEAD, most)
    except zlib.error as error:
        raise BodyError(
            HTTPStatus.BAD_REQUEST,
            f"the body is not compressed as its Content-Encoding says. Send one whole stream of {encoding}.",
        ) from error


def _inflated(body: bytes, head: int, most: int) -> bytes:
    stream = zlib.decompressobj(head)
    plain = stream.decompress(body, most + 1)
    if len(plain) > most:
        raise _too_large(most)
    if not stream.eof or stream.unused_data:
        raise zlib.error("the stream ends elsewhere than the body")
    return plain


def _json_part(body: bytes, length: str) -> bytes:
    """What of a binary body KServe takes for JSON."""
    return body[: int(length)] if is_length(length) else b""  # which is refused by its header


def _require_few_values(body: bytes, limits: Limits) -> None:
    most = VALUES_OF_A_TEXT * limits.texts + VALUES_OF_A_REQUEST
    if has_more_values(body, most):
        raise BodyError(
            HTTPStatus.BAD_REQUEST,
            f"the body holds more than {most} values in lists and objects, which {limits.texts} texts do not need. "
            f"Send several requests, or start the server with a larger --max_texts.",
        )


def has_more_values(body: bytes, most: int) -> bool:
    """Whether JSON in UTF-8 holds more than `most` values, told without making any of them.

    A value is the first of its list or object, or stands behind a comma; brackets and commas within texts do not
    count. Making a million values, and finding a mistake in each, takes seconds and a gigabyte.
    """
    if _marks(body) <= most:
        return False
    # Without what is escaped, quotation marks begin and end strings, so that every other part lies outside of them.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = plain.count(b'"') // 2
    # Each is a value, or the name of one.
    return strings > 2 * most + 1 or _marks(b"".join(plain.split(b'"')[::2])) > most


def _marks(body: bytes) -> int:
    return sum(map(body.count, (b",", b"[", b"{")))


def _too_large(most: int) -> BodyError:
    return BodyError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than the {most} bytes that one may have, as it comes and unpacked. "
        f"Send several requests, or start the server with a larger --max_body_bytes.",
    )


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
