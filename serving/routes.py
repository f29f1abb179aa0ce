"""Adds our own routes to KServe's: `POST /predict`, `POST /explain`, and two pages to try them on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from miniml import __version__

from . import deadline
from .explanation import explain
from .inference import Inference
from .predictor import checked_text
from .schemas import TextRequest

PAGE_DIR = Path(__file__).parent / "page"
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
DIGITS_OF_DIGEST = 12

# A page may load from this server alone, and may not appear in another site's frame.
POLICY = "default-src 'none'; {more}connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
    "content-security-policy": POLICY.format(more="script-src 'self'; style-src 'self'; img-src 'self'; "),
}
# Swagger uses inline styles and data: images.
SWAGGER_HEADERS = {
    **HEADERS,
    "content-security-policy": POLICY.format(
        more="script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    ),
}


def text_routes(inference: Inference) -> APIRouter:
    """Returns the routes `POST /predict` and `POST /explain`, which take one text."""
    router, adapter = APIRouter(), inference.output_adapter

    @router.post("/predict", response_model=adapter.answer_schema)
    async def predict(question: TextRequest) -> Any:
        texts = [checked_text("text", question.text)]
        (prediction,) = await inference.predict(texts, timeout_s=deadline.remaining())
        return adapter.answer_schema(**asdict(prediction))

    @router.post("/explain", response_model=adapter.explanation_schema)
    async def explain_text(question: TextRequest) -> Any:
        text = checked_text("text", question.text)
        explanation = await explain(inference, text, timeout_s=deadline.remaining())
        return adapter.explanation(explanation.prediction, explanation.label, explanation.pieces)

    return router


def add_pages(
    app: FastAPI,
    inference: Inference,
    model_name: str,
    document: Callable[[], Awaitable[dict[str, Any]]] | None,
) -> None:
    """Adds `GET /`, a page that answers a typed text, and `GET /docs`, a page to try all routes.

    KServe's own `/` is added later, and so is not reached. FastAPI's own document, and its page that loads Swagger
    from another host, are removed.

    Args:
        app: The application.
        inference: Describes the model.
        model_name: The name under which the model is served.
        document: Returns the OpenAPI document; None leaves out `/docs` and `/openapi.json`.
    """
    app.router.routes = [
        route
        for route in app.router.routes
        if not str(getattr(route, "path", "")).startswith(("/docs", "/openapi.json"))
    ]
    app.mount("/page", StaticFiles(directory=PAGE_DIR / "static"))
    placeholders = {
        "model_name": model_name,
        "classes": inference.output_adapter.summary(inference.labels),
        "verb": inference.output_adapter.verb,
        "act": inference.output_adapter.verb.lower(),
        "bars": inference.output_adapter.bars_description,
        "characters": str(inference.limits.characters),
        "max_length": str(inference.classifier.max_length),
        "digest": inference.digest[:DIGITS_OF_DIGEST],
        "version": __version__,
    }
    # Starlette would redirect a path with a trailing slash to wherever the request's Host says.
    app.router.redirect_slashes = False
    _add_page(app, "/", "index.html", placeholders, HEADERS)
    if document:
        app.mount("/swagger", StaticFiles(directory=SWAGGER))
        app.add_api_route("/openapi.json", document, include_in_schema=False)
        _add_page(app, "/docs", "docs.html", placeholders, SWAGGER_HEADERS)


def _add_page(
    app: FastAPI, path: str, file: str, placeholders: dict[str, str], headers: dict[str, str]
) -> None:
    filled = {name: escape(value) for name, value in placeholders.items()}
    page = Template((PAGE_DIR / file).read_text(encoding="utf-8")).substitute(filled)

    async def answer() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    app.add_api_route(path, answer, include_in_schema=False)
