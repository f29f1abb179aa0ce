"""KServe's model server, with its open doors shut and its rough edges taken off."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from http import HTTPStatus
from typing import Any, NoReturn

from kserve import InferRequest, ModelServer
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

# What comes before the tensors of V2's binary form; its body is not JSON to its end.
BINARY_HEADER = "inference-header-content-length"
SECONDS_BETWEEN_LOOKS = 0.05


class Server(ModelServer):  # type: ignore[misc]  # KServe ships no types
    """Serves on one port, says so once it does, and stops when it is told to."""

    def __init__(self, greeting: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.dataplane = CarefulDataPlane(self.registered_models)
        self.model_repository_extension = ClosedRepository(self.registered_models)
        self.servers.append(self._greet(greeting))
        self._listening = False

    async def _greet(self, greeting: str) -> None:
        """Prints `greeting` when the port answers, which uvicorn has no hook for."""
        while not self._listening:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.http_port)
                writer.close()
                self._listening = True
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        print(greeting, flush=True)

    def stop(self, sig: int) -> None:
        """Ends the process; uvicorn calls this after it has answered what was under way."""
        if not self._listening:
            # uvicorn does not hear signals yet, and KServe's stop would unload the model and leave it running.
            raise SystemExit(0)
        super().stop(sig)


class CarefulDataPlane(DataPlane):  # type: ignore[misc]  # KServe ships no types
    """Takes a binary V2 request that cannot be read for what it is: a mistake of the client's."""

    def decode_inference_request(self, body: Any, headers: dict[str, str], model_name: str) -> InferRequest:
        try:
            return super().decode_inference_request(body, headers, model_name)
        except InvalidInput:
            raise
        except (AttributeError, InferenceError, LookupError, TypeError, ValueError, struct.error) as error:
            raise InvalidInput(
                f"the body is not a binary V2 request. Send JSON without the header {BINARY_HEADER}, or that many "
                f"bytes of JSON and then the tensors, each as long as its binary_data_size says."
            ) from error


class ClosedRepository(ModelRepositoryExtension):  # type: ignore[misc]  # KServe ships no types
    """Loads and unloads nothing: KServe lets anyone unload the model, and nothing brings it back."""

    async def load(self, model_name: str) -> NoReturn:
        _refuse("load", model_name)

    async def unload(self, model_name: str) -> NoReturn:
        _refuse("unload", model_name)


def _refuse(action: str, model_name: str) -> NoReturn:
    raise HTTPException(
        HTTPStatus.FORBIDDEN,
        f"no client may {action} {model_name!r}. The model is chosen when the server starts: --model_dir.",
    )


class JsonBodies:
    """Calls a body JSON whatever its sender called it: a bare `curl -d` says that it is a form.

    KServe would hand it on as bytes, as it does with "application/json; charset=utf-8". What is
    truly not JSON to its end keeps its name: V2's binary form, and cloud events.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and _is_plain(Headers(scope=scope)):
            MutableHeaders(scope=scope)["content-type"] = "application/json"
        await self._app(scope, receive, send)


def _is_plain(headers: Headers) -> bool:
    cloud_event = "ce-specversion" in headers or "cloudevents" in headers.get("content-type", "")
    return not cloud_event and BINARY_HEADER not in headers
