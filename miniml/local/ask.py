"""Serves a model for a moment, and requests predictions over HTTP as its users will."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests

from miniml.errors import MinimlError
from miniml.escaping import plain

SECONDS_TO_START = 120
"""The most seconds that the predictor may take to start."""
CREDENTIAL = "MINIML_TOKEN"
"""The environment variable with the predictor's bearer token."""


class ServingError(MinimlError):
    """The predictor did not start, or did not answer."""


Serving = Callable[[Path, str], AbstractContextManager[str]]
"""Serves a model folder under a name while the context lasts, and yields the server's address."""


def ask(serving: Serving, model_dir: Path, name: str, texts: list[str]) -> list[dict[str, Any]]:
    """Serves a model and returns its answers to `texts`.

    Args:
        serving: Starts a predictor.
        model_dir: The model folder.
        name: The name under which the model is served.
        texts: The texts.

    Returns:
        For each text a dictionary with the text and the task's answer (see `miniml.tasks`).

    Raises:
        ServingError: The predictor did not start or answer; the message holds the end of its output.
    """
    with serving(model_dir, name) as url, _directly() as session:
        response = session.post(f"{url}/v1/models/{name}:predict", json={"instances": texts}, timeout=60)
    if not response.ok:
        raise ServingError(f"the predictor answered {response.status_code}: {response.text[:500]}")
    return [
        {"text": text, **answer} for text, answer in zip(texts, response.json()["predictions"], strict=True)
    ]


def describe_answer(answer: dict[str, Any]) -> str:
    """Returns an answer on one line: the value, or the labels and the probabilities of all classes."""
    if "value" in answer:
        return f"{answer['value']:.4g}"
    labels = [answer["label"]] if "label" in answer else answer["labels"]
    probabilities = ", ".join(f"{label} {value:.3f}" for label, value in answer["probabilities"].items())
    return plain(f"{', '.join(labels) or 'no label'} ({probabilities})")


def predictor_module() -> str:
    """Returns the predictor's package: within miniml where it is installed from its wheel, beside it in a checkout."""
    return "miniml.serving" if find_spec("miniml.serving") else "serving"


def serving_command(model_dir: Path, name: str, port: int) -> list[str]:
    """Returns the command line that starts the predictor with this interpreter.

    Args:
        model_dir: The model folder.
        name: The name under which the model is served.
        port: The HTTP port.
    """
    options = f"--model_dir={model_dir}", f"--model_name={name}", f"--http_port={port}"
    return [sys.executable, "-m", predictor_module(), *options]


@contextlib.contextmanager
def serving_in_a_process(model_dir: Path, name: str) -> Iterator[str]:
    """Runs the predictor in a process of its own, and yields its address once it is ready.

    Raises:
        ServingError: The predictor did not start.
    """
    port = free_port()
    # It is asked over REST only, and gRPC would need another free port.
    command = [*serving_command(model_dir, name, port), "--host=127.0.0.1", "--enable_grpc=false"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            if not becomes_ready(url, name, lambda: process.poll() is None):
                log.seek(0)
                raise not_started(log.read())
            yield url
        finally:
            process.terminate()
            process.wait(timeout=60)


def free_port() -> int:
    """Returns a port of this machine that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def becomes_ready(url: str, name: str, alive: Callable[[], bool]) -> bool:
    """Waits until the model is ready.

    Args:
        url: The predictor's address.
        name: The model's name.
        alive: Says whether the predictor still runs.

    Returns:
        Whether it became ready, before the predictor ended and within `SECONDS_TO_START`.
    """
    deadline = time.monotonic() + SECONDS_TO_START
    with _directly() as session:
        while alive() and time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if session.get(f"{url}/v2/models/{name}/ready", timeout=2).ok:
                    return True
            time.sleep(0.1)
    return False


def _directly() -> requests.Session:
    """Returns a session that ignores the environment's proxies: they are not for servers of this machine."""
    session = requests.Session()
    session.trust_env = False
    session.headers.update(authorization())
    return session


def authorization() -> dict[str, str]:
    """Returns the header with the token of MINIML_TOKEN, which a predictor with the same variable requires."""
    token = os.environ.get(CREDENTIAL, "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def not_started(log: str) -> ServingError:
    """Returns the error of a predictor that did not start, with the end of its output."""
    return ServingError(f"the predictor did not start: {log[-1000:].strip() or 'it said nothing'}")
