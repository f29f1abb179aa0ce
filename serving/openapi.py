"""Writes the OpenAPI document: every route with its requests, answers and errors, and examples of the served model.

FastAPI would describe KServe's routes by the types of their Python functions, which are not what they take and answer
(decisions 15 and 36).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

from kserve.protocol.rest.v2_datamodels import (
    ListModelsResponse,
    ModelMetadataResponse,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from miniml import __version__

from .explanation import Explanation, explain
from .inference import Inference
from .request_log import ID_HEADER, TIMEOUT_HEADER, VALID_ID
from .schemas import ErrorResponse, Protocols, TextRequest, V1Models, V1Ready, V1Request
from .settings import Limits

EXAMPLE = "The staff were friendly, but we waited an hour for cold food."
DESCRIPTION = """\
The model answers over [KServe's](https://kserve.github.io) protocols V1 and V2, and over two routes of its own. Every \
error is `{{"error": "…"}}`. A request to the model may have an id (`X-Request-Id`), which the answer repeats, and the \
number of seconds that its sender can wait (`X-Request-Timeout`).

A request may have at most {body_bytes:,} bytes and {texts:,} texts, and a text at most {characters:,} characters. \
The server speaks V2 over gRPC too.
"""
REASONS = {
    HTTPStatus.BAD_REQUEST: "The request is malformed or exceeds a limit; the error says what to send instead.",
    HTTPStatus.UNAUTHORIZED: "The token is missing or wrong.",
    HTTPStatus.NOT_FOUND: "No model has that name.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is compressed with something other than gzip or deflate.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The server is too busy to answer in time; see the header `Retry-After`.",
}
REF = "#/components/schemas/{model}"
JSON, TEXT = "application/json", "text/plain"
SCHEME = "token"


@dataclass(frozen=True)
class Route:
    """One route as the document describes it."""

    method: str
    path: str
    tag: str
    summary: str
    answers: type[BaseModel] | None = None
    """The schema of the answer; None means plain text."""
    example: Any = None
    """An example of the answer."""
    takes: type[BaseModel] | None = None
    """The schema of the request's body; None means no body."""
    requests: Mapping[str, Any] = field(default_factory=dict)
    """Examples of the body, each by a name that says what it shows."""
    is_open: bool = False
    """Whether the route answers without the token."""

    @property
    def errors(self) -> list[HTTPStatus]:
        """The statuses other than 200 that the route may answer with."""
        asks = self.takes is not None
        return [
            status
            for status, comes in (
                (HTTPStatus.BAD_REQUEST, asks),
                (HTTPStatus.UNAUTHORIZED, not self.is_open),
                (HTTPStatus.NOT_FOUND, "{model_name}" in self.path),
                (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, asks),
                (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, asks),
                (HTTPStatus.SERVICE_UNAVAILABLE, asks or self.path.endswith(("/live", "/ready"))),
            )
            if comes
        ]


def document_of(
    inference: Inference, model_name: str, *, token_needed: bool
) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Returns a function that returns the document.

    The first call writes the document, because its examples are the model's answers.

    Args:
        inference: Answers the example text.
        model_name: The name under which the model is served.
        token_needed: Whether clients have to send the token.
    """
    written: dict[str, Any] = {}

    async def document() -> dict[str, Any]:
        if not written:
            routes = _routes(model_name, inference, await explain(inference, EXAMPLE))
            written.update(_document(routes, model_name, inference.limits, token_needed=token_needed))
        return written

    return document


def _routes(model_name: str, inference: Inference, explanation: Explanation) -> list[Route]:
    adapter, labels = inference.output_adapter, inference.labels
    tensors = adapter.tensors([explanation.prediction], labels)
    protocols = Protocols.of(
        adapter.answer_schema, {name: tensor.datatype for name, tensor in tensors.items()}
    )
    question = {"a text": {"text": EXAMPLE}}
    answer = asdict(explanation.prediction)
    explained = adapter.explanation(
        explanation.prediction, explanation.label, explanation.pieces
    ).model_dump()
    v1_requests = {"texts": {"instances": [EXAMPLE]}, "objects": {"instances": [{"text": EXAMPLE}]}}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [EXAMPLE]}
    v2_requests = {
        "all outputs": {"id": "7", "inputs": [tensor]},
        f"{adapter.output_names[0]} only": {
            "inputs": [tensor],
            "outputs": [{"name": adapter.output_names[0]}],
        },
    }
    v2_answer = {
        "model_name": model_name,
        "id": "7",
        "parameters": adapter.parameters(labels),
        "outputs": [{"name": name, **asdict(tensor)} for name, tensor in tensors.items()],
    }
    models = {"models": [model_name]}
    ready = {"name": model_name, "ready": True}
    v1, v2 = "/v1/models/{model_name}", "/v2/models/{model_name}"
    ask = partial(Route, "post")
    look = partial(Route, "get")
    look_freely = partial(Route, "get", is_open=True)
    classify = f"{adapter.verb} texts"
    is_ready = "Tell whether the model is ready"
    return [
        ask(
            "/predict",
            "miniml",
            f"{adapter.verb} one text",
            adapter.answer_schema,
            answer,
            TextRequest,
            question,
        ),
        ask(
            "/explain",
            "miniml",
            "Tell which words pushed the answer",
            adapter.explanation_schema,
            explained,
            TextRequest,
            question,
        ),
        ask(
            f"{v1}:predict",
            "V1",
            classify,
            protocols.v1_answer,
            {"predictions": [answer]},
            V1Request,
            v1_requests,
        ),
        look("/v1/models", "V1", "List the models", V1Models, models),
        look_freely(v1, "V1", is_ready, V1Ready, ready),
        ask(f"{v2}/infer", "V2", classify, protocols.v2_answer, v2_answer, protocols.v2_request, v2_requests),
        look("/v2", "V2", "Tell what the server is", ServerMetadataResponse),
        look("/v2/models", "V2", "List the models", ListModelsResponse, models),
        look(v2, "V2", "Tell the model's inputs and outputs", ModelMetadataResponse),
        look_freely(f"{v2}/ready", "V2", is_ready, ModelReadyResponse, ready),
        look_freely("/v2/health/live", "Health", "Tell whether the server lives", ServerLiveResponse),
        look_freely("/v2/health/ready", "Health", "Tell whether every model is ready", ServerReadyResponse),
        look_freely("/metrics", "Health", "Counts and times, as Prometheus reads them"),
    ]


def _document(
    routes: Sequence[Route], model_name: str, limits: Limits, *, token_needed: bool
) -> dict[str, Any]:
    models = dict.fromkeys(
        model for route in routes for model in (route.answers, route.takes, ErrorResponse) if model
    )
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    schemas = definitions["$defs"]
    for schema in schemas.values():
        # KServe's examples are of other models.
        schema.pop("example", None)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = _operation(
            route, model_name, token_needed=token_needed
        )
    components: dict[str, Any] = {"schemas": schemas}
    if token_needed:
        components["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model_name,
            "version": f"miniml {__version__}",
            "description": DESCRIPTION.format_map(asdict(limits)),
        },
        # Relative to the document's own address, because a gateway may add a prefix.
        "servers": [{"url": "."}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": components,
    }


def _operation(route: Route, model_name: str, *, token_needed: bool) -> dict[str, Any]:
    content: dict[str, Any] = (
        {JSON: {"schema": _ref(route.answers)}} if route.answers else {TEXT: {"schema": {"type": "string"}}}
    )
    if route.example is not None:
        content[JSON]["example"] = route.example
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.path}").strip("_"),
        "parameters": _parameters(route, model_name),
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **{
                str(int(status)): {
                    "description": REASONS[status],
                    "content": {JSON: {"schema": _ref(ErrorResponse)}},
                }
                for status in route.errors
                if token_needed or status != HTTPStatus.UNAUTHORIZED
            },
        },
    }
    if route.takes:
        examples = {
            name.replace(" ", "-"): {"summary": name, "value": body} for name, body in route.requests.items()
        }
        body = {"schema": _ref(route.takes), "examples": examples}
        operation["requestBody"] = {"required": True, "content": {JSON: body}}
    if token_needed and not route.is_open:
        operation["security"] = [{SCHEME: []}]
    return operation


def _parameters(route: Route, model_name: str) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if "{model_name}" in route.path:
        schema = {"type": "string", "enum": [model_name]}
        parameters.append({"name": "model_name", "in": "path", "required": True, "schema": schema})
    if route.takes:
        parameters += [
            {
                "name": ID_HEADER,
                "in": "header",
                "description": "The answer and the log repeat it.",
                "schema": {"type": "string", "pattern": f"^{VALID_ID.pattern}$"},
            },
            {
                "name": TIMEOUT_HEADER,
                "in": "header",
                "description": "The number of seconds that the sender can wait.",
                "schema": {"type": "number", "exclusiveMinimum": 0},
            },
        ]
    return parameters


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}
