"""Answers errors in one form, {"error": "…"}, which says what is wrong with the request, or only "internal error"."""

from __future__ import annotations

import logging
import traceback
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady, ServerNotLive, ServerNotReady
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .inference import OverloadedError

logger = logging.getLogger(__name__)

PHRASES = frozenset(status.phrase for status in HTTPStatus)
# These replace Starlette's phrases. They leave out the path, so that no log or page shows what a stranger wrote.
ROUTING_ERRORS = {
    HTTPStatus.NOT_FOUND.value: "there is no such path. GET /openapi.json lists those that there are.",
    HTTPStatus.METHOD_NOT_ALLOWED.value: "this path takes other methods; the header Allow lists them.",
}

UNREADABLE = "There was an error parsing the body"
"""FastAPI's message for a body on which Python's parser fails for a reason other than its JSON."""
MAX_REPORTED = 10
"""The number of mistakes that one answer lists."""
# The fields of the protocols; messages name no others, which could be a part of a review.
FIELDS = ("id", "parameters", "inputs", "outputs", "name", "shape", "datatype", "data", "text")

# A client's mistakes, and the answers to probes; the log has their reason already.
CLIENT_ERRORS = (
    InvalidInput,
    ModelNotFound,
    NotImplementedError,
    ModelNotReady,
    ServerNotLive,
    ServerNotReady,
)


def install(app: FastAPI) -> None:
    """Gives FastAPI's errors the form that KServe's handlers give to KServe's errors."""
    app.add_exception_handler(RequestValidationError, _refuse_body)
    app.add_exception_handler(HTTPException, _refuse_request)
    app.add_exception_handler(OverloadedError, _refuse_for_now)
    app.add_middleware(UnexpectedErrors)
    logging.getLogger("kserve").addFilter(is_server_fault)


class UnexpectedErrors:
    """Middleware that logs unexpected errors and hides them from clients; KServe's handler would send their text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = False

        async def tracking_send(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive, tracking_send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            logger.error("%s", error_trace(error))
            if answering:
                # Uvicorn sees the unfinished answer and closes; given the error, it would log its text.
                return
            await _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")(scope, receive, send)


def error_trace(error: BaseException) -> str:
    """Describes an error without its message, which may hold a review.

    Returns:
        The error's class and its places in the code, and the same for each of its causes.
    """
    parts = []
    cause: BaseException | None = error
    while cause:
        frames = traceback.extract_tb(cause.__traceback__)
        lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        parts.append("\n".join([type(cause).__name__, *lines]))
        cause = cause.__cause__
    return "\ncaused by ".join(parts)


def is_server_fault(record: logging.LogRecord) -> bool:
    """Filters KServe's log, which has a traceback for each mistake of a client, and for each probe."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, CLIENT_ERRORS)


def _refusal(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)


async def _refuse_body(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    sentences = [_sentence(mistake) for mistake in error.errors()[:MAX_REPORTED]]
    return _refusal(HTTPStatus.BAD_REQUEST, "; ".join(sentences))


def _sentence(mistake: dict[str, Any]) -> str:
    """Says what is wrong and where, without values and unknown keys, either of which may be a review."""
    if mistake["type"] == "json_invalid":
        return f"the body is not JSON: at character {mistake['loc'][-1]}"
    known = [part for part in mistake["loc"] if isinstance(part, int) or part in FIELDS]
    return f"{'.'.join(map(str, known)) or 'the body'}: {mistake['msg']}"


async def _refuse_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = ROUTING_ERRORS.get(error.status_code) if error.detail in PHRASES else None
    if error.detail == UNREADABLE:
        message = "the body is no JSON in UTF-8 that can be read. A compressed one needs the header Content-Encoding."
    return JSONResponse({"error": message or error.detail}, error.status_code, error.headers)


async def _refuse_for_now(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OverloadedError)
    return JSONResponse(
        {"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": str(error.retry_after_s)}
    )
