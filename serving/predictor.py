"""KServe's V1 and V2 protocols in front of a classifier."""

from __future__ import annotations

import json
import reprlib
import uuid
from dataclasses import asdict
from typing import Any

from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

from miniml.classifier import Prediction
from serving.inference import Inference

INPUT_NAME = "text"
OUTPUT_NAMES = ("label", "score", "probabilities")
V1_REMEDY = 'Send {"instances": ["a text", …]} or {"instances": [{"text": "a text"}, …]}.'


class Predictor(Model):  # type: ignore[misc]  # KServe ships no types
    """Takes texts out of a request and puts label names and every probability into the answer."""

    def __init__(self, name: str, inference: Inference) -> None:
        super().__init__(name)
        self.ready = True  # its classifier was loaded before
        self._inference = inference

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
        if isinstance(payload, InferRequest):
            return self._v2_answer(payload, await self._inference.predict(v2_texts(payload)))
        predictions = await self._inference.predict(v1_texts(payload))
        return {"predictions": [asdict(prediction) for prediction in predictions]}

    def _v2_answer(self, request: InferRequest, predictions: list[Prediction]) -> InferResponse:
        count, labels = len(predictions), self._inference.labels
        # Lists, not arrays: KServe 0.21 cannot put arrays into a gRPC answer.
        names = [prediction.label for prediction in predictions]
        scores = [prediction.score for prediction in predictions]
        shares = [share for prediction in predictions for share in prediction.probabilities.values()]
        return InferResponse(
            response_id=request.id
            if request.id is not None
            else str(uuid.uuid4()),  # KServe's answer needs one
            model_name=self.name,
            infer_outputs=[
                InferOutput("label", [count], "BYTES", names),
                InferOutput("score", [count], "FP32", scores),
                InferOutput("probabilities", [count, len(labels)], "FP32", shares),
            ],
            # The order of the columns. A parameter can be a string or a number, but no list.
            parameters={"labels": json.dumps(labels, ensure_ascii=False)},
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        """What `GET /v2/models/{name}` tells of the input; -1 is any number of texts."""
        return [{"name": INPUT_NAME, "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """What `GET /v2/models/{name}` tells of the outputs."""
        return [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "score", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(self._inference.labels)]},
        ]


def v1_texts(body: Any) -> list[str]:
    """The texts of a V1 body: strings, or objects with a text."""
    if not isinstance(body, dict):
        raise InvalidInput(f"the body is {_told(body)}, not an object. {V1_REMEDY}")
    if "instances" not in body:
        raise InvalidInput(f"'instances' is missing; the body has: {_listed(body)}. {V1_REMEDY}")
    instances = body["instances"]
    if not isinstance(instances, list):
        raise InvalidInput(f"instances is {_told(instances)}, not a list. {V1_REMEDY}")
    if not instances:
        raise InvalidInput(f"instances is empty. {V1_REMEDY}")
    return [_v1_text(f"instances[{place}]", instance) for place, instance in enumerate(instances)]


def _v1_text(place: str, instance: Any) -> str:
    if isinstance(instance, dict):
        if INPUT_NAME not in instance:
            raise InvalidInput(f"{place} has no 'text'; it has: {_listed(instance)}. {V1_REMEDY}")
        place, instance = f"{place}.text", instance[INPUT_NAME]
    return checked_text(place, instance)


def v2_texts(request: InferRequest) -> list[str]:
    """The texts of a V2 request: its one BYTES tensor, of shape [n] or [n, 1]."""
    if request.id is not None:
        checked_text("id", request.id)  # it goes into the answer
    for output in request.request_outputs or ():
        if output.name not in OUTPUT_NAMES:
            raise InvalidInput(f"output {output.name!r} does not exist. Ask for {', '.join(OUTPUT_NAMES)}.")
    if len(request.inputs) != 1:
        raise InvalidInput(f"the request has {len(request.inputs)} inputs. Send one BYTES tensor of texts.")
    tensor = request.inputs[0]
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"input {tensor.name!r} has datatype {tensor.datatype!r}. Send texts as BYTES.")
    _require_column(tensor)
    try:
        values = tensor.as_numpy().ravel().tolist()
    except ValueError as error:
        raise InvalidInput(
            f"input {tensor.name!r} has shape {tensor.shape}, which its data does not fill. Send one value a text."
        ) from error
    return [checked_text(f"input {tensor.name!r}[{place}]", value) for place, value in enumerate(values)]


def _require_column(tensor: InferInput) -> None:
    match tensor.shape:
        case [int(count)] | [int(count), 1] if count >= 1:
            return
    raise InvalidInput(
        f"input {tensor.name!r} has shape {_shown(tensor.shape)}. Send shape [n] or [n, 1], n being 1 or more."
    )


def checked_text(place: str, value: Any) -> str:
    """`value` as a text; V2 brings strings over REST and bytes over gRPC."""
    try:
        text = value.decode() if isinstance(value, bytes) else value
        if isinstance(text, str):
            text.encode()  # JSON can spell half a surrogate pair, and the tokenizer would fail on it
            return text
    except UnicodeError as error:
        raise InvalidInput(
            f"{place} is {_shown(value)}, which is not valid UTF-8. Send whole characters."
        ) from error
    raise InvalidInput(f"{place} is {_told(value)}. Send a string.")


def _told(value: Any) -> str:
    return f"{_shown(value)}, of type {type(value).__name__}"


def _shown(value: Any) -> str:
    """`value` as an error message can carry it: short, and free of what JSON cannot hold."""
    return reprlib.repr(value)


def _listed(body: dict[str, Any]) -> str:
    return _shown(sorted(body)) if body else "nothing"
