"""Makes KServe's data plane strict, and closes its model repository."""

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

# The header of V2's binary form: how many bytes of the body are JSON; the tensors follow them.
BINARY_HEADER = "inference-header-content-length"
REPOSITORY_REMEDY = "The model is chosen when the server starts: --model_dir."
# What KServe raises for bodies that it cannot decode. Its messages quote the body, so ours replace them.
DECODING_ERRORS = (
    AttributeError,
    InferenceError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
)


class UnreadableBody(InvalidInput):  # type: ignore[misc]  # KServe ships no types
    """The body is not what its headers say."""


class UnknownModel(ModelNotFound):  # type: ignore[misc]  # KServe ships no types
    """There is no such model; KServe's own message would repeat the name that the client sent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class StrictDataPlane(DataPlane):  # type: ignore[misc]  # KServe ships no types
    """KServe's data plane, which reports bodies that it cannot decode and unknown models as the client's mistakes."""

    def metadata(self) -> dict[str, Any]:
        """Returns the server's metadata; KServe's lists the closed extension, and not the one that works."""
        return {**super().metadata(), "extensions": ["binary_tensor_data"]}

    async def live(self) -> dict[str, str]:
        """Returns whether the server lives: one whose model can no longer answer should be restarted."""
        return {"status": "alive" if await self.ready() else "dead"}

    async def ready(self) -> bool:
        """Tells whether every model is ready; KServe's own always says yes."""
        return all([await self._model_registry.is_model_ready(name) for name in self._model_registry.models])

    def get_model_from_registry(self, name: str) -> BaseKServeModel:
        """Returns a model.

        Raises:
            UnknownModel: There is no model of that name.
        """
        self._require(name)
        return super().get_model_from_registry(name)

    async def get_model(self, name: str) -> BaseKServeModel:
        """Returns a model that is ready.

        Raises:
            UnknownModel: There is no model of that name.
        """
        self._require(name)
        return await super().get_model(name)

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """Tells whether a model is ready.

        Raises:
            UnknownModel: There is no model of that name.
        """
        self._require(model_name)
        return bool(await super().model_ready(model_name, disable_predictor_health_check))

    def decode(
        self, body: Any, headers: dict[str, str], *which: Any, **more: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Decodes a body, and returns it with its attributes.

        Raises:
            UnreadableBody: The body cannot be decoded.
        """
        try:
            decoded: tuple[Any, dict[str, Any]] = super().decode(body, headers, *which, **more)
        except UnreadableBody:
            raise
        except DECODING_ERRORS as error:
            raise UnreadableBody(_unreadable(error)) from error
        return decoded

    def decode_inference_request(self, body: Any, headers: dict[str, str], model_name: str) -> InferRequest:
        """Decodes a V2 request.

        Args:
            body: The body of the request.
            headers: Its headers, in lower case.
            model_name: The name of the model.

        Raises:
            UnreadableBody: The body cannot be decoded.
        """
        try:
            return super().decode_inference_request(body, headers, model_name)
        except DECODING_ERRORS as error:
            if not isinstance(body, bytes):
                # KServe decodes every JSON tensor but FP16.
                raise UnreadableBody(
                    "an input has a datatype other than BYTES. Send texts as BYTES."
                ) from error
            raise UnreadableBody(
                f"the body is not a binary V2 request. Send JSON without the header {BINARY_HEADER}, or that many "
                f"bytes of JSON and then the tensors, each as long as its binary_data_size says."
            ) from error

    def _require(self, name: str) -> None:
        if self._model_registry.get_model(name) is None:
            # It does not list the models: some of the routes that end here require no token.
            raise UnknownModel("no model has that name. GET /v1/models lists those that there are.")


class ClosedRepository(ModelRepositoryExtension):  # type: ignore[misc]  # KServe ships no types
    """A repository that neither loads nor unloads; with KServe's, anyone can unload the model for good."""

    async def load(self, model_name: str) -> NoReturn:
        """Answers 403."""
        _refuse("load")

    async def unload(self, model_name: str) -> NoReturn:
        """Answers 403."""
        _refuse("unload")


def _refuse(action: str) -> NoReturn:
    raise HTTPException(HTTPStatus.FORBIDDEN, f"no client may {action} a model. {REPOSITORY_REMEDY}")


def _unreadable(error: BaseException) -> str:
    """Says where decoding failed, without quoting the body."""
    if isinstance(error.__context__, json.JSONDecodeError):
        return f"the body is not JSON: {error.__context__.msg} at character {error.__context__.pos}"
    return "the body is neither JSON nor the cloud event that its headers announce."
