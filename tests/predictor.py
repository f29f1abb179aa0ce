"""A predictor that runs as its clients meet it: a process of its own, spoken to over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
import requests
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests import patience
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
NAME = "reviews"
HELD = """
import sys, time
from pathlib import Path
from serving.__main__ import main
from serving.batch_queue import BatchQueue

def take_later(queue):
    batch = take(queue)
    while not Path({go!r}).exists():
        time.sleep(0.01)
    return batch

take, BatchQueue.take = BatchQueue.take, take_later
sys.exit(main())
"""


@dataclass(frozen=True)
class Server:
    """A predictor that runs."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    grpc_address: str = ""
    channel: grpc.Channel | None = field(default=None, compare=False)

    def post(self, path: str, body: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=patience.SECONDS)

    def v1(self, instances: Any) -> requests.Response:
        return self.post(f"/v1/models/{NAME}:predict", {"instances": instances})

    def v2(self, data: list[Any], shape: list[int], **more: Any) -> requests.Response:
        tensor = {"name": "any", "datatype": "BYTES", "shape": shape, "data": data}
        return self.post(f"/v2/models/{NAME}/infer", {"inputs": [tensor], **more})

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=patience.SECONDS)

    @property
    def grpc(self) -> Any:
        """KServe's client for every method of V2 over gRPC."""
        assert self.channel is not None
        return GRPCInferenceServiceStub(self.channel)


def infer_message(texts: list[str] | list[bytes], *, raw: bool = False, **more: Any) -> Any:
    """The request for `texts`, as contents or as a raw tensor."""
    values = [text.encode() if isinstance(text, str) else text for text in texts]
    tensor: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [len(values)]}
    if raw:
        more["raw_input_contents"] = [raw_tensor(values)]
    else:
        tensor["contents"] = {"bytes_contents": values}
    return messages.ModelInferRequest(**{"model_name": NAME, "inputs": [tensor], **more})


def raw_tensor(values: list[bytes]) -> bytes:
    """V2's binary form of BYTES: each value after its length."""
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


@contextlib.contextmanager
def running(
    model_dir: Path, log: Path, *more: str, program: tuple[str, ...] = ("-m", "serving")
) -> Iterator[Server]:
    """Runs the predictor with `more` options, and ends it."""
    http_port, grpc_port = free_port(), free_port()
    words = [f"--model_dir={model_dir}", f"--model_name={NAME}", f"--http_port={http_port}"]
    words += ["--engine=torch-fp32"]  # answers to the last digit, and no time spent on choosing
    # what is late on a busy machine is answered all the same
    words += [f"--request_timeout={patience.SECONDS}"]
    words += [f"--transfer_timeout={patience.SECONDS}"]  # likewise
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *program, *words, f"--grpc_port={grpc_port}", *more],
            cwd=ROOT,
            stdout=out,
            stderr=out,
        )
    address = f"127.0.0.1:{grpc_port}"
    with grpc.insecure_channel(address) as channel:
        server = Server(f"http://127.0.0.1:{http_port}", process, log, address, channel)
        try:
            wait_until_ready(server)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=patience.SECONDS)


def held_until(go: Path) -> tuple[str, str]:
    """The program of a predictor whose engine begins no batch before the file `go` is there."""
    return "-c", HELD.format(go=str(go))


def wait_until_ready(server: Server) -> None:
    def is_ready() -> bool:
        if server.process.poll() is not None:
            pytest.fail(f"the predictor did not start: {server.log.read_text()}")
        with contextlib.suppress(requests.ConnectionError):
            return server.get(f"/v2/models/{NAME}/ready").ok and server.url in server.log.read_text()
        return False

    patience.wait_until(is_ready, server.log.read_text)


def told_since_start(server: Server) -> str:
    """What it printed after it had said that it serves."""
    _, greeting, printed = server.log.read_text().partition(f"serving {NAME!r} at {server.url}")
    assert greeting
    return printed.partition("\n")[2]


def refused_start(*words: str) -> str:
    """What `python -m serving WORDS` says on standard error when it exits with status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "serving", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def error_of(response: requests.Response, status: int) -> str:
    """The error's text, in the one form that every error has."""
    assert response.status_code == status, response.text
    answer = response.json()
    assert list(answer) == ["error"]
    assert "Traceback" not in answer["error"]
    return str(answer["error"])
