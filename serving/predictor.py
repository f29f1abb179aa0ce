"""KServe's V1 and V2 protocols in front of the classifier.

https://kserve.github.io/website/docs/concepts/architecture/data-plane
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InferenceError, InvalidInput

from miniml.classifier import Classifier, Prediction
from serving.inference import InferenceThread

logger = logging.getLogger("miniml.serving")


class Predictor(Model):  # type: ignore[misc]  # kserve is untyped
    """One classifier under one name."""

    def __init__(self, name: str, classifier: Classifier) -> None:
        super().__init__(name)
        self.labels = classifier.labels
        self.digest = classifier.manifest.digest
        self._inference = InferenceThread(classifier)

    async def answer(self, texts: list[str]) -> list[Prediction]:
        """Predictions of `texts`.

        Raises:
            InferenceError: something went wrong; its text says nothing of what, for it goes to the client.
        """
        try:
            return await self._inference.predict(texts)
        except Exception as error:
            logger.exception("prediction failed")
            raise InferenceError("internal error") from error

    async def predict(
        self, payload: dict[str, Any] | InferRequest, headers: Any = None, response_headers: Any = None
    ) -> dict[str, Any] | InferResponse:
        """Answers a V1 body or a V2 request."""
        if isinstance(payload, InferRequest):
            answers = await self.answer(_texts_of_v2(payload))
            return self._as_v2(answers, payload)
        answers = await self.answer(_texts_of_v1(payload))
        return {"predictions": [vars(answer) for answer in answers]}

    def get_input_types(self) -> list[dict[str, Any]]:
        """V2 metadata: one text an element."""
        return [{"name": "text", "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        """V2 metadata; every answer names the columns of `probabilities` in its parameter `labels`."""
        return [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "score", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(self.labels)]},
        ]

    def _as_v2(self, answers: list[Prediction], request: InferRequest) -> InferResponse:
        count = len(answers)
        rows = [list(answer.probabilities.values()) for answer in answers]
        return InferResponse(
            response_id=str(request.id or uuid.uuid4()),
            model_name=self.name,
            infer_outputs=[
                InferOutput("label", [count], "BYTES", [answer.label for answer in answers]),
                InferOutput("score", [count], "FP32", [answer.score for answer in answers]),
                InferOutput(
                    "probabilities",
                    [count, len(self.labels)],
                    "FP32",
                    [share for row in rows for share in row],
                    # A parameter is a string, number or boolean, so the names travel as JSON.
                    parameters={"labels": json.dumps(self.labels, ensure_ascii=False)},
                ),
            ],
        )


def _texts_of_v1(body: Any) -> list[str]:
    instances = body.get("instances") if isinstance(body, dict) else None
    if not isinstance(instances, list) or not instances:
        raise InvalidInput('send {"instances": ["a text", ...]}, with one text or more')
    texts = [instance.get("text") if isinstance(instance, dict) else instance for instance in instances]
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f'instances[{number}] is neither a string nor {{"text": "a string"}}')
    return texts


def _texts_of_v2(request: InferRequest) -> list[str]:
    if len(request.inputs) != 1:
        raise InvalidInput(f"send one input, a BYTES tensor of texts; there are {len(request.inputs)}")
    tensor = request.inputs[0]
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"input {tensor.name!r} has datatype {tensor.datatype}; texts are BYTES")
    try:
        values = tensor.as_numpy().ravel().tolist()
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"the data of input {tensor.name!r} does not fit its shape {tensor.shape}"
        ) from error
    if not values:
        raise InvalidInput(f"input {tensor.name!r} holds no text")
    return [_decoded(value, tensor.name, number) for number, value in enumerate(values)]


def _decoded(value: Any, name: str, number: int) -> str:
    """BYTES come as str over REST and as bytes over gRPC or in binary form."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"element {number} of input {name!r} is not UTF-8") from error
    if not isinstance(value, str):
        raise InvalidInput(f"element {number} of input {name!r} is no text")
    return value
