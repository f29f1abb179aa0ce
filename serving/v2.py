"""V2 over HTTP: a request is checked from its outside to its texts, and the first thing that is wrong is told."""

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

from serving.bodies import is_length
from serving.dataplane import BINARY_HEADER
from serving.limits import require_few
from serving.predictor import V2_REMEDY, kind
from serving.settings import Limits

BINARY_REMEDY = (
    f"Send JSON without the header {BINARY_HEADER}, or that many bytes of JSON and then the tensor, as long as its "
    f"binary_data_size says."
)


def inference_route(endpoints: V2Endpoints, limits: Limits) -> APIRouter:
    """`POST /v2/models/{model_name}/infer`, which hands a request that is in order to KServe's."""
    router = APIRouter()

    @router.post("/v2/models/{model_name}/infer", response_model=None)
    @router.post("/v2/models/{model_name}/versions/{model_version}/infer", response_model=None)
    async def infer(
        request: Request, response: Response, model_name: str, model_version: str | None = None
    ) -> Any:
        asked = request_of(await request.body(), request.headers.get(BINARY_HEADER), model_name, limits)
        return await endpoints.infer(request, response, model_name, asked, model_version)

    return router


def request_of(body: bytes, json_length: str | None, model_name: str, limits: Limits) -> InferRequest:
    """The request that `body` holds.

    Args:
        body: JSON, and behind it a tensor in V2's binary form, where there is one.
        json_length: as the header tells it, how many bytes are JSON; all are where there is no header.
        model_name: of the model that is asked.
        limits: the most texts that a request may have.

    Raises:
        InvalidInput: the body is not a request for one tensor of texts; the message names the place, and no value.
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
    """The texts of V2's binary form, in which each stands behind its length, as 4 bytes, least first.

    Raises:
        InvalidInput: the last is not whole, or there are more than one request may have.
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
    except (
        ValueError,
        RecursionError,
    ) as error:
        # no UTF-8, numbers of thousands of digits, lists in lists in lists
        raise InvalidInput("the body is not JSON that can be read.") from error


def _tensor(given: dict[str, Any]) -> dict[str, Any]:
    inputs = given.get("inputs")
    if not isinstance(inputs, list):
        raise InvalidInput(f"inputs is {kind(inputs)}, not a list. {V2_REMEDY}")
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
        raise InvalidInput(f"inputs[0].data is {kind(data)}, not a list. {V2_REMEDY}")
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
        raise InvalidInput(f"outputs is {kind(outputs)}, not a list. Leave it out for all outputs.")
    return [_output(place, output) for place, output in enumerate(outputs)]


def _output(place: int, output: Any) -> RequestedOutput:
    given = _object(f"outputs[{place}]", output)
    return RequestedOutput(
        given.get("name"), _scalars(f"outputs[{place}].parameters", given.get("parameters"))
    )


def _object(place: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{place} is {kind(value)}. Send an object.")
    return value or {}


def _scalars(place: str, value: Any) -> dict[str, Any]:
    parameters = _object(place, value)
    for parameter in parameters.values():
        if not isinstance(parameter, str | int | float):
            raise InvalidInput(f"{place} holds {kind(parameter)}. Send strings, numbers and booleans.")
    return parameters


def _string_or_none(place: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{place} is {kind(value)}. Send a string.")
    return value
