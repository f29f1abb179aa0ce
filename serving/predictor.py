"""Implements KServe's V1 and V2 protocols: reads texts from requests, and writes predictions into answers."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

from miniml.task import Prediction

from . import deadline
from .inference import Inference
from .output_adapters import OUTPUT_ADAPTERS, OutputAdapter

INPUT_NAME = "text"
V1_REMEDY = 'Send {"instances": ["a text", …]} or {"instances": [{"text": "a text"}, …]}.'
V2_REMEDY = "Send one BYTES tensor of texts, of shape [n] or [n, 1]."


class Predictor(Model):  # type: ignore[misc]  # KServe ships no types
    """Answers the requests of one model.

    Args:
        name: The model's name in addresses.
        inference: Answers the texts.
        adapter: Puts the predictions of the model's task into the protocols' forms.
    """

    def __init__(
        self, name: str, inference: Inference, adapter: OutputAdapter[Any] = OUTPUT_ADAPTERS["class"]
    ) -> None:
        super().__init__(name)
        # The classifier is loaded already.
        self.ready = True
        self._inference = inference
        self._adapter = adapter

    async def healthy(self) -> bool:
        """Tells KServe's probes whether the model still answers."""
        return bool(self.ready) and self._inference.healthy

    def validate(self, payload: Any) -> Any:
        """Does nothing: `predict` checks, with messages that say what to send."""
        return payload

    async def predict(
        self, payload: Any, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Answers a request.

        Args:
            payload: A V2 request, or the decoded body of a V1 request.
            headers: The request's headers, which are not used.

        Returns:
            A V2 answer, or the body of a V1 answer.

        Raises:
            InvalidInput: The request is malformed; the message says what to send.
            OverloadedError: The queue is full, or the answer would come too late.
            InferenceError: The model failed.
        """
        timeout_s = deadline.remaining()
        if isinstance(payload, InferRequest):
            texts = v2_texts(payload, self._adapter.output_names)
            return self._v2_answer(payload, await self._inference.predict(texts, timeout_s=timeout_s))
        predictions = await self._inference.predict(v1_texts(payload), timeout_s=timeout_s)
        return {"predictions": [asdict(prediction) for prediction in predictions]}

    def _v2_answer(self, request: InferRequest, predictions: list[Prediction]) -> InferResponse:
        labels = self._inference.labels
        outputs = self._adapter.tensors(predictions, labels)
        # KServe selects the requested outputs over REST, but not over gRPC.
        names = (
            dict.fromkeys(output.name for output in request.request_outputs or ())
            or self._adapter.output_names
        )
        return InferResponse(
            # KServe's answer has to have an id.
            response_id=str(uuid.uuid4()) if request.id is None else request.id,
            model_name=self.name,
            infer_outputs=[
                InferOutput(name, tensor.shape, tensor.datatype, tensor.data)
                for name in names
                for tensor in [outputs[name]]
            ],
            parameters=self._adapter.parameters(labels),
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        """Returns the input as `GET /v2/models/{name}` describes it; -1 is any number of texts."""
        return [{"name": INPUT_NAME, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """Returns the outputs as `GET /v2/models/{name}` describes them."""
        return self._adapter.metadata(self._inference.labels)


# Messages name the place, the type and what to send, and never a value, a name or a key of the client's, any of which
# may be a part of a review.


def v1_texts(body: Any) -> list[str]:
    """Returns the texts of a V1 body, whose instances are strings, or objects with a text.

    Raises:
        InvalidInput: The body has another form.
    """
    if not isinstance(body, dict):
        raise InvalidInput(f"the body is {json_type(body)}, not an object. {V1_REMEDY}")
    if "instances" not in body:
        raise InvalidInput(f"'instances' is missing in the body. {V1_REMEDY}")
    instances = body["instances"]
    if not isinstance(instances, list):
        raise InvalidInput(f"instances is {json_type(instances)}, not a list. {V1_REMEDY}")
    if not instances:
        raise InvalidInput(f"instances is empty. {V1_REMEDY}")
    return [_v1_text(f"instances[{place}]", instance) for place, instance in enumerate(instances)]


def _v1_text(place: str, instance: Any) -> str:
    if isinstance(instance, dict):
        if INPUT_NAME not in instance:
            raise InvalidInput(f"{place} has no 'text'. {V1_REMEDY}")
        place, instance = f"{place}.text", instance[INPUT_NAME]
    return checked_text(place, instance)


def v2_texts(request: InferRequest, outputs: Sequence[str]) -> list[str]:
    """Returns the texts of a V2 request, which are its one BYTES tensor, of shape [n] or [n, 1].

    Args:
        request: The request.
        outputs: The names of the outputs that it may ask for.

    Raises:
        InvalidInput: The request has another form, or asks for other outputs.
    """
    if request.id is not None:
        # The answer repeats it.
        checked_text("id", request.id)
    _require_object("parameters", request.parameters)
    for place, output in enumerate(request.request_outputs or ()):
        if output.name not in outputs:
            raise InvalidInput(f"outputs[{place}] does not exist. Ask for {', '.join(outputs)}.")
        _require_object(f"outputs[{place}].parameters", output.parameters)
    if len(request.inputs) != 1:
        raise InvalidInput(f"the request has {len(request.inputs)} inputs. {V2_REMEDY}")
    tensor = request.inputs[0]
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"inputs[0] has a datatype other than BYTES. {V2_REMEDY}")
    return [checked_text(f"inputs[0].data[{place}]", value) for place, value in enumerate(_values(tensor))]


def _values(tensor: InferInput) -> list[Any]:
    match tensor.shape:
        case [int(count)] | [int(count), 1] if count >= 1 and not isinstance(count, bool):
            pass
        case _:
            raise InvalidInput("inputs[0] has a shape other than [n] or [n, 1], n being 1 or more.")
    try:
        values: list[Any] = tensor.as_numpy().ravel().tolist()
    except struct.error as error:
        raise InvalidInput(
            "inputs[0] ends within a text. Before each text send its length in bytes, as 4 bytes, least first."
        ) from error
    except (OverflowError, ValueError) as error:
        raise InvalidInput(
            "inputs[0] has a shape that its data does not fill. Send one value a text."
        ) from error
    return values


def _require_object(place: str, value: Any) -> None:
    """Requires an object: KServe does not check V2's binary form, and a gRPC map is not a dict."""
    if not isinstance(value, Mapping | None):
        raise InvalidInput(f"{place} is {json_type(value)}. Send an object, or leave it out.")


def checked_text(place: str, value: Any) -> str:
    """Returns `value` as a string; V2 has strings over REST and bytes over gRPC.

    Args:
        place: Where the value is, for the message.
        value: The value that the client sent.

    Raises:
        InvalidInput: The value is not a string, or not valid UTF-8.
    """
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if isinstance(text, str):
            # JSON can have half a surrogate pair, on which the tokenizer would fail.
            text.encode()
            return text
    except UnicodeError as error:
        raise InvalidInput(f"{place} is not valid UTF-8. Send whole characters.") from error
    raise InvalidInput(f"{place} is {json_type(value)}. Send a string.")


def json_type(value: Any) -> str:
    """Names the type of a value as JSON does, without the value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return f"a number ({type(value).__name__})"
        case str() | bytes():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"of type {type(value).__name__}"
