"""One form for every error, {"error": "…"}: what was wrong with the request, or no more than "internal error"."""

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
# In place of the phrases that Starlette has for them. The path stays out: whoever made it up knows it, and who looks
# at a log or a page of errors should not have to read what a stranger wrote.
ROUTING_ERRORS = {
    HTTPStatus.NOT_FOUND.value: "there is no such path. GET /openapi.json lists those that there are.",
    HTTPStatus.METHOD_NOT_ALLOWED.value: "this path takes other methods; the header Allow lists them.",
}

UNREADABLE = "There was an error parsing the body"
"""FastAPI's words for a body that Python's parser fails on for another reason than its JSON."""
MAX_REPORTED = 10
"""That one answer tells of; who mends them hears of the next."""
# Names of fields that a protocol has; a message names no others.
FIELDS = ("id", "parameters", "inputs", "outputs", "name", "shape", "datatype", "data", "text")

# Mistakes of a client, and what probes are told, of which the log has the reason once.
CLIENT_ERRORS = (
    InvalidInput,
    ModelNotFound,
    NotImplementedError,
    ModelNotReady,
    ServerNotLive,
    ServerNotReady,
)


def install(app: FastAPI) -> None:
    """Gives FastAPI's own errors the form that KServe's handlers give to KServe's."""
    app.add_exception_handler(RequestValidationError, _refuse_body)
    app.add_exception_handler(HTTPException, _refuse_request)
    app.add_exception_handler(OverloadedError, _refuse_for_now)
    app.add_middleware(UnexpectedErrors)
    logging.getLogger("kserve").addFilter(is_server_fault)


class UnexpectedErrors:
    """Logs what nobody expected, and tells the client nothing of it: KServe's last handler would tell its text."""

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
                return  # uvicorn sees that the answer is not whole, and closes; of the error it would log the text
            await _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")(scope, receive, send)


def error_trace(error: BaseException) -> str:
    """What kind of error it was, and where in the code, down to its first cause; its text may hold a review."""
    told = []
    cause: BaseException | None = error
    while cause:
        frames = traceback.extract_tb(cause.__traceback__)
        lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        told.append("\n".join([type(cause).__name__, *lines]))
        cause = cause.__cause__
    return "\ncaused by ".join(told)


def is_server_fault(record: logging.LogRecord) -> bool:
    """Whether to keep a line of KServe's log: it writes a traceback for each mistake of a client, and each probe."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, CLIENT_ERRORS)


def _refusal(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)


async def _refuse_body(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = [_sentence(mistake) for mistake in error.errors()[:MAX_REPORTED]]
    return _refusal(HTTPStatus.BAD_REQUEST, "; ".join(told))


def _sentence(mistake: dict[str, Any]) -> str:
    """What was wrong and where, without the value: it may be a review, and so may a key that nobody knows."""
    if mistake["type"] == "json_invalid":
        return f"the body is not JSON: at character {mistake['loc'][-1]}"
    known = [part for part in mistake["loc"] if isinstance(part, int) or part in FIELDS]
    return f"{'.'.join(map(str, known)) or 'the body'}: {mistake['msg']}"


async def _refuse_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = ROUTING_ERRORS.get(error.status_code) if error.detail in PHRASES else None
    if error.detail == UNREADABLE:
        told = "the body is no JSON in UTF-8 that can be read. A compressed one needs the header Content-Encoding."
    return JSONResponse({"error": told or error.detail}, error.status_code, error.headers)


async def _refuse_for_now(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OverloadedError)
    return JSONResponse(
        {"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": str(error.retry_after_s)}
    )
