"""What stands between the protocols and the model: KServe's data plane, careful, and its repository, closed."""

from __future__ import annotations

import json
import struct
from http import HTTPStatus
from typing import Any, NoReturn

from kserve import InferRequest
from kserve.errors import InferenceError, InvalidInput, ModelNotFound
from kserve.model import BaseKServeModel
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from starlette.exceptions import HTTPException

# What comes before the tensors of V2's binary form; its body is not JSON to its end.
BINARY_HEADER = "inference-header-content-length"
REPOSITORY_REMEDY = "The model is chosen when the server starts: --model_dir."
# What KServe raises over bodies that it cannot read. Its messages quote them, so that each gets one of ours.
DECODING_ERRORS = (
    AttributeError,
    InferenceError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
)


class UnreadableBody(InvalidInput):  # type: ignore[misc]  # as KServe names its own
    """The body is not what its headers say."""


class UnknownModel(ModelNotFound):  # type: ignore[misc]  # as KServe names its own
    """Says what is wrong, where KServe's repeats the name that the client sent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class StrictDataPlane(DataPlane):  # type: ignore[misc]  # KServe ships no types
    """Takes what cannot be read, or is not there, for what it is: a mistake of the client's."""

    def metadata(self) -> dict[str, Any]:
        """What the server is; KServe's lists the extension that we closed, and not the one that works."""
        return {**super().metadata(), "extensions": ["binary_tensor_data"]}

    async def live(self) -> dict[str, str]:
        """Whether it should go on: a server whose model will answer no more should be started anew."""
        return {"status": "alive" if await self.ready() else "dead"}

    async def ready(self) -> bool:
        """Whether every model is; KServe's says yes without looking."""
        return all([await self._model_registry.is_model_ready(name) for name in self._model_registry.models])

    def get_model_from_registry(self, name: str) -> BaseKServeModel:
        self._require(name)
        return super().get_model_from_registry(name)

    async def get_model(self, name: str) -> BaseKServeModel:
        self._require(name)
        return await super().get_model(name)

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        self._require(model_name)
        return bool(await super().model_ready(model_name, disable_predictor_health_check))

    def decode(
        self, body: Any, headers: dict[str, str], *which: Any, **more: Any
    ) -> tuple[Any, dict[str, Any]]:
        try:
            decoded: tuple[Any, dict[str, Any]] = super().decode(body, headers, *which, **more)
        except UnreadableBody:
            raise
        except DECODING_ERRORS as error:
            raise UnreadableBody(_unreadable(error)) from error
        return decoded

    def decode_inference_request(self, body: Any, headers: dict[str, str], model_name: str) -> InferRequest:
        try:
            return super().decode_inference_request(body, headers, model_name)
        except DECODING_ERRORS as error:
            if not isinstance(body, bytes):  # KServe reads all of JSON's tensors but those of FP16
                raise UnreadableBody(
                    "an input has a datatype other than BYTES. Send texts as BYTES."
                ) from error
            raise UnreadableBody(
                f"the body is not a binary V2 request. Send JSON without the header {BINARY_HEADER}, or that many "
                f"bytes of JSON and then the tensors, each as long as its binary_data_size says."
            ) from error

    def _require(self, name: str) -> None:
        if self._model_registry.get_model(name) is None:
            # It does not say which there are: some of the routes that end here ask for no token.
            raise UnknownModel("no model has that name. GET /v1/models lists those that there are.")


class ClosedRepository(ModelRepositoryExtension):  # type: ignore[misc]  # KServe ships no types
    """Loads and unloads nothing: KServe lets anyone unload the model, and nothing brings it back."""

    async def load(self, model_name: str) -> NoReturn:
        _refuse("load")

    async def unload(self, model_name: str) -> NoReturn:
        _refuse("unload")


def _refuse(action: str) -> NoReturn:
    raise HTTPException(HTTPStatus.FORBIDDEN, f"no client may {action} a model. {REPOSITORY_REMEDY}")


def _unreadable(error: BaseException) -> str:
    """Where reading stopped, and nothing of what stood there."""
    if isinstance(error.__context__, json.JSONDecodeError):
        return f"the body is not JSON: {error.__context__.msg} at character {error.__context__.pos}"
    return "the body is neither JSON nor the cloud event that its headers announce."
