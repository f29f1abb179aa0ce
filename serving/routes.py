"""Our own routes on KServe's application, and what its routes need to be safe and forgiving."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from miniml import __version__
from serving.predictor import Predictor

# Bodies of these kinds are not plain JSON: V2's binary form and CloudEvents.
_OTHER_CONTENT = (b"application/octet-stream", b"application/cloudevents")


class Review(BaseModel):
    """A text to classify."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "A wonderful film, I would gladly watch it again."}]}
    )

    text: str


class Answer(BaseModel):
    """The class that the model takes the text for."""

    label: str
    score: float = Field(description="The probability of the label, the largest of them.")
    probabilities: dict[str, float] = Field(description="Every class's probability by its name.")


class Problem(BaseModel):
    """What was wrong with the request."""

    error: str


def install(app: FastAPI, predictor: Predictor) -> None:
    """Puts our routes, errors and middleware on KServe's application; call it before the server starts.

    Routes that stand first win, so KServe's own come after these.
    """
    app.title, app.version = f"miniml · {predictor.name}", __version__
    app.include_router(_prediction(predictor))
    app.include_router(_closed())
    app.add_api_route("/docs", lambda: _docs(app), include_in_schema=False, response_class=HTMLResponse)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(JsonByDefault)


def _prediction(predictor: Predictor) -> APIRouter:
    router = APIRouter(tags=["miniml"])

    @router.post(
        "/predict", response_model=Answer, responses={422: {"model": Problem}, 500: {"model": Problem}}
    )
    async def predict(review: Review) -> Any:
        """Classifies one text."""
        [answer] = await predictor.answer([review.text])
        return vars(answer)

    return router


def _closed() -> APIRouter:
    """KServe lets anyone unload the model, for good."""
    router = APIRouter(include_in_schema=False)

    @router.post("/v2/repository/models/{model_name}/load")
    @router.post("/v2/repository/models/{model_name}/unload")
    async def refuse(model_name: str) -> None:
        raise HTTPException(403, "models are not loaded or unloaded over HTTP; deploy another revision")

    return router


def _docs(app: FastAPI) -> HTMLResponse:
    return get_swagger_ui_html(openapi_url=app.openapi_url or "/openapi.json", title=app.title)


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    """One error format; the offending value itself is not repeated, for it may be somebody's review."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"error": f"{where}: {first['msg']}"}, 422)


async def _http_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


class JsonByDefault:
    """Takes a body for JSON whatever its content type says, the binary kinds excepted.

    KServe compares the header as a whole: with `; charset=utf-8`, or from a bare `curl -d`, a JSON body would
    reach the model as raw bytes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            headers = dict(scope["headers"])
            if not headers.get(b"content-type", b"").startswith(_OTHER_CONTENT):
                scope = {**scope, "headers": [*{**headers, b"content-type": b"application/json"}.items()]}
        await self._app(scope, receive, send)
