"""Reads a request's body, decompresses it, and checks it against the limits before anything parses it."""

from __future__ import annotations

import asyncio
import json
import zlib
from http import HTTPStatus

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .dataplane import BINARY_HEADER
from .settings import Limits

# zlib's own numbers for the headers it accepts: gzip's or zlib's, or none. HTTP's "deflate" has to have zlib's, but is
# often sent without.
ANY_HEADER, RAW_DEFLATE = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS
MAX_DIGITS = 18
ENCODINGS = ("gzip", "x-gzip", "deflate")
VALUES_PER_TEXT = 16
"""The number of JSON values per text: its own, and those that a client may send with it."""
EXTRA_VALUES = 1_000
"""The number of JSON values that a request may have in addition to those of its texts."""


class BodyError(Exception):
    """The body is refused; the message says what to send instead."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class BodyReader:
    """Middleware that reads each body, up to a limit, and cancels the work for a client that disconnects.

    After the end of the body, the only message that can arrive is that the client disconnected; uvicorn by itself lets
    the application go on.
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
            body = decoded(await _body(headers, receive, self._limits.body_bytes), headers, self._limits)
        except ClientDisconnect:
            # Nobody is there to read an answer.
            return
        except BodyError as refusal:
            # The rest of the body is not read, so the connection cannot be used again.
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
                # Raises what the application raised.
                answering.result()
        finally:
            answering.cancel()
            hanging_up.cancel()

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        await self._app(scope, _Replay(body), send)


def is_length(header: str) -> bool:
    """Tells whether a header's value is a plausible number of bytes; Python refuses to parse thousands of digits."""
    return header.isdecimal() and len(header) <= MAX_DIGITS


async def _body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """Reads the body as it was sent.

    Raises:
        BodyError: The body has more than `limit` bytes.
        ClientDisconnect: The client disconnected before the end of the body.
    """
    announced = headers.get("content-length", "0")
    if not is_length(announced) or int(announced) > limit:
        raise _too_large(limit)
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        part = message.get("body", b"")
        size, more = size + len(part), message.get("more_body", False)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def decoded(body: bytes, headers: Headers, limits: Limits) -> bytes:
    """Returns the body decompressed, and its JSON in UTF-8.

    Args:
        body: The body as it arrived.
        headers: The request's headers.
        limits: The limits on its size.

    Raises:
        BodyError: The body cannot be decompressed, or its JSON has far more values than a request needs.
    """
    body = decompressed(body, headers.get("content-encoding", ""), limits.body_bytes)
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


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Returns the body without its compression.

    Args:
        body: The body as it was sent.
        encoding: The value of the header Content-Encoding; "" is none.
        limit: The number of bytes that the result may have.

    Raises:
        BodyError: The encoding is not supported, the body does not have it, or the result is too large.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ENCODINGS:
        raise BodyError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "the body's Content-Encoding is not read here. Send it as it is, or with gzip or deflate.",
        )
    try:
        return _inflate(body, ANY_HEADER, limit)
    except zlib.error:
        pass
    try:
        return _inflate(body, RAW_DEFLATE, limit)
    except zlib.error as error:
        raise BodyError(
            HTTPStatus.BAD_REQUEST,
            f"the body is not compressed as its Content-Encoding says. Send one whole stream of {encoding}.",
        ) from error


def _inflate(body: bytes, window_bits: int, limit: int) -> bytes:
    stream = zlib.decompressobj(window_bits)
    plain = stream.decompress(body, limit + 1)
    if len(plain) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        raise zlib.error("the stream ends elsewhere than the body")
    return plain


def _json_part(body: bytes, length: str) -> bytes:
    """Returns the part of a binary body that is JSON; the protocol refuses the request where `length` is no number."""
    return body[: int(length)] if is_length(length) else b""


def _require_few_values(body: bytes, limits: Limits) -> None:
    limit = VALUES_PER_TEXT * limits.texts + EXTRA_VALUES
    if has_more_values(body, limit):
        raise BodyError(
            HTTPStatus.BAD_REQUEST,
            f"the body holds more than {limit} values in lists and objects, which {limits.texts} texts do not need. "
            f"Send several requests, or start the server with a larger --max_texts.",
        )


def has_more_values(body: bytes, limit: int) -> bool:
    """Tells whether JSON in UTF-8 has more than `limit` values, without parsing it.

    A value is the first of its list or object, or follows a comma; brackets and commas within strings do not count.
    Parsing a million values, and validating each, takes seconds and a gigabyte.
    """
    if _count_delimiters(body) <= limit:
        return False
    # Once escapes are gone, quotation marks begin and end strings, so that every other part lies outside of them.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = plain.count(b'"') // 2
    # Each string is a value, or the name of one.
    return strings > 2 * limit + 1 or _count_delimiters(b"".join(plain.split(b'"')[::2])) > limit


def _count_delimiters(body: bytes) -> int:
    return sum(map(body.count, (b",", b"[", b"{")))


def _too_large(limit: int) -> BodyError:
    return BodyError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than the {limit} bytes that one may have, compressed or not. "
        f"Send several requests, or start the server with a larger --max_body_bytes.",
    )


class _Replay:
    """Gives the application the body once, and then blocks: the middleware itself waits for the disconnect."""

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
