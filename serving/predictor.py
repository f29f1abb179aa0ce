"""KServe's V1 and V2 protocols in front of a model."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

from serving import deadline
from serving.forms import FORMS, Form
from serving.inference import Inference

INPUT_NAME = "text"
V1_REMEDY = 'Send {"instances": ["a text", …]} or {"instances": [{"text": "a text"}, …]}.'
V2_REMEDY = "Send one BYTES tensor of texts, of shape [n] or [n, 1]."


class Predictor(Model):  # type: ignore[misc]  # KServe ships no types
    """Takes texts out of a request and puts the answers into the form of the task."""

    def __init__(self, name: str, inference: Inference, form: Form = FORMS["class"]) -> None:
        super().__init__(name)
        self.ready = True  # its classifier was loaded before
        self._inference = inference
        self._form = form

    async def healthy(self) -> bool:
        """Whether the model still answers, for KServe's probes."""
        return bool(self.ready) and self._inference.healthy

    def validate(self, payload: Any) -> Any:
        """Leaves the checks to `predict`, whose messages name the value and the remedy."""
        return payload

    async def predict(
        self, payload: Any, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Answers a V2 request, or else the decoded body of a V1 request.

        Raises:
            InvalidInput: the request holds no texts; the message says what it holds instead.
        """
        timeout_s = deadline.remaining()
        if isinstance(payload, InferRequest):
            texts = v2_texts(payload, self._form.outputs)
            return self._v2_answer(payload, await self._inference.predict(texts, timeout_s=timeout_s))
        predictions = await self._inference.predict(v1_texts(payload), timeout_s=timeout_s)
        return {"predictions": [asdict(prediction) for prediction in predictions]}

    def _v2_answer(self, request: InferRequest, predictions: list[Any]) -> InferResponse:
        labels = self._inference.labels
        outputs = self._form.tensors(predictions, labels)
        # KServe picks the requested ones over REST, and forgets to over gRPC.
        names = dict.fromkeys(output.name for output in request.request_outputs or ()) or self._form.outputs
        return InferResponse(
            response_id=request.id
            if request.id is not None
            else str(uuid.uuid4()),  # KServe's answer needs one
            model_name=self.name,
            infer_outputs=[
                InferOutput(name, tensor.shape, tensor.datatype, tensor.data)
                for name in names
                for tensor in [outputs[name]]
            ],
            parameters=self._form.parameters(labels),
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        """What `GET /v2/models/{name}` tells of the input; -1 is any number of texts."""
        return [{"name": INPUT_NAME, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """What `GET /v2/models/{name}` tells of the outputs."""
        return self._form.types(self._inference.labels)


# The messages name the place, the type and the remedy, and never a value, a name or a key that a client sent: each
# may be a piece of a review.


def v1_texts(body: Any) -> list[str]:
    """The texts of a V1 body: strings, or objects with a text."""
    if not isinstance(body, dict):
        raise InvalidInput(f"the body is {kind(body)}, not an object. {V1_REMEDY}")
    if "instances" not in body:
        raise InvalidInput(f"'instances' is missing in the body. {V1_REMEDY}")
    instances = body["instances"]
    if not isinstance(instances, list):
        raise InvalidInput(f"instances is {kind(instances)}, not a list. {V1_REMEDY}")
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
    """The texts of a V2 request for some of `outputs`: its one BYTES tensor, of shape [n] or [n, 1]."""
    if request.id is not None:
        checked_text("id", request.id)  # it goes into the answer
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
    """V2's binary form reaches us unchecked, and a gRPC map is like a dict without being one."""
    if not isinstance(value, Mapping | None):
        raise InvalidInput(f"{place} is {kind(value)}. Send an object, or leave it out.")


def checked_text(place: str, value: Any) -> str:
    """`value` as a text; V2 brings strings over REST and bytes over gRPC."""
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if isinstance(text, str):
            text.encode()  # JSON can spell half a surrogate pair, and the tokenizer would fail on it
            return text
    except UnicodeError as error:
        raise InvalidInput(f"{place} is not valid UTF-8. Send whole characters.") from error
    raise InvalidInput(f"{place} is {kind(value)}. Send a string.")


def kind(value: Any) -> str:
    """What JSON calls a value, and Python, without the value."""
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
