"""Parses and checks a V2 request over HTTP, and reports the first mistake."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from kserve import InferInput, InferRequest
from kserve.errors import InvalidInput
from kserve.protocol.infer_type import RequestedOutput
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.requests import Request
from starlette.responses import Response

from .bodies import is_length
from .dataplane import BINARY_HEADER
from .limits import require_few
from .predictor import V2_REMEDY, json_type
from .settings import Limits

BINARY_REMEDY = (
    f"Send JSON without the header {BINARY_HEADER}, or that many bytes of JSON and then the tensor, as long as its "
    f"binary_data_size says."
)


def inference_route(endpoints: V2Endpoints, limits: Limits) -> APIRouter:
    """Returns the route `POST /v2/models/{model_name}/infer`, which passes a valid request on to KServe's endpoint."""
    router = APIRouter()

    @router.post("/v2/models/{model_name}/infer", response_model=None)
    @router.post("/v2/models/{model_name}/versions/{model_version}/infer", response_model=None)
    async def infer(
        request: Request, response: Response, model_name: str, model_version: str | None = None
    ) -> Any:
        asked = parse_request(await request.body(), request.headers.get(BINARY_HEADER), model_name, limits)
        return await endpoints.infer(request, response, model_name, asked, model_version)

    return router


def parse_request(body: bytes, json_length: str | None, model_name: str, limits: Limits) -> InferRequest:
    """Parses a request.

    Args:
        body: JSON, followed by a tensor in V2's binary form where there is one.
        json_length: The header's number of bytes that are JSON; None without the header, when all are.
        model_name: The name of the model in the request's path.
        limits: The size that a request may have.

    Raises:
        InvalidInput: The body is not a request with one tensor of texts; the message names the place, but no value.
    """
    size = len(body) if json_length is None else _length(json_length, len(body))
    given = _object("the body", _parsed(body[:size]))
    tensor = _tensor(given)
    data = _data(tensor, body[size:], limits)
    more = _object("inputs[0].parameters", tensor.get("parameters"))
    return InferRequest(
        model_name=model_name,
        request_id=_string_or_none("id", given.get("id")),
        parameters=_scalars("parameters", given.get("parameters")),
        infer_inputs=[InferInput(tensor["name"], tensor["shape"], tensor["datatype"], data, more)],
        request_outputs=_outputs(given.get("outputs")),
    )


def binary_texts(raw: bytes, limits: Limits) -> list[bytes]:
    """Splits V2's binary form, where each text follows its length in 4 bytes, little-endian.

    Raises:
        InvalidInput: The last text is incomplete, or there are too many.
    """
    texts: list[bytes] = []
    start = 0
    while start < len(raw):
        require_few(limits, len(texts) + 1)
        end = start + 4
        length = int.from_bytes(raw[start:end], "little")
        if end + length > len(raw):
            raise InvalidInput(
                "inputs[0] ends within a text. Before each text send its length in bytes, as 4 bytes, least first."
            )
        texts.append(raw[end : end + length])
        start = end + length
    return texts


def _length(header: str, size: int) -> int:
    if not is_length(header) or int(header) > size:
        raise InvalidInput(f"the header {BINARY_HEADER} is no length of a part of the body. {BINARY_REMEDY}")
    return int(header)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:
        # Invalid UTF-8, a number of thousands of digits, or too many nested lists.
        raise InvalidInput("the body is not JSON that can be read.") from error


def _tensor(given: dict[str, Any]) -> dict[str, Any]:
    inputs = given.get("inputs")
    if not isinstance(inputs, list):
        raise InvalidInput(f"inputs is {json_type(inputs)}, not a list. {V2_REMEDY}")
    if len(inputs) != 1:
        raise InvalidInput(f"the request has {len(inputs)} inputs. {V2_REMEDY}")
    tensor = _object("inputs[0]", inputs[0])
    for name, wanted in (("name", str), ("datatype", str), ("shape", list)):
        if not isinstance(tensor.get(name), wanted):
            raise InvalidInput(f"inputs[0] has no '{name}', or one that is no {_JSON[wanted]}. {V2_REMEDY}")
    return tensor


_JSON: dict[type, str] = {str: "string", list: "list"}


def _data(tensor: dict[str, Any], binary: bytes, limits: Limits) -> list[Any]:
    if tensor["datatype"] != "BYTES":
        raise InvalidInput(f"inputs[0] has a datatype other than BYTES. {V2_REMEDY}")
    data = tensor.get("data")
    if isinstance(data, list):
        require_few(limits, len(data))
        return data
    if data is not None:
        raise InvalidInput(f"inputs[0].data is {json_type(data)}, not a list. {V2_REMEDY}")
    size = _object("inputs[0].parameters", tensor.get("parameters")).get("binary_data_size")
    if size is None:
        raise InvalidInput(f"inputs[0] has no 'data'. {V2_REMEDY}")
    if size != len(binary):
        raise InvalidInput(f"the body is not a binary V2 request. {BINARY_REMEDY}")
    return list(binary_texts(binary, limits))


def _outputs(outputs: Any) -> list[RequestedOutput] | None:
    if outputs is None:
        return None
    if not isinstance(outputs, list):
        raise InvalidInput(f"outputs is {json_type(outputs)}, not a list. Leave it out for all outputs.")
    return [_output(place, output) for place, output in enumerate(outputs)]


def _output(place: int, output: Any) -> RequestedOutput:
    given = _object(f"outputs[{place}]", output)
    return RequestedOutput(
        given.get("name"), _scalars(f"outputs[{place}].parameters", given.get("parameters"))
    )


def _object(place: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{place} is {json_type(value)}. Send an object.")
    return value or {}


def _scalars(place: str, value: Any) -> dict[str, Any]:
    parameters = _object(place, value)
    for parameter in parameters.values():
        if not isinstance(parameter, str | int | float):
            raise InvalidInput(f"{place} holds {json_type(parameter)}. Send strings, numbers and booleans.")
    return parameters


def _string_or_none(place: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{place} is {json_type(value)}. Send a string.")
    return value
