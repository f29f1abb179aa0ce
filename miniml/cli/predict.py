"""Defines the command predict: it asks the service at --url, or else the one that `serve` runs here, or a cluster's."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from miniml.errors import ClusterError, InputError
from miniml.escaping import plain, quoted
from miniml.kubeflow.submission import SubmissionError
from miniml.local.ask import CREDENTIAL, authorization, describe_answer
from miniml.local.runner import OUTPUTS
from miniml.resource_names import SERVING_NAMESPACE

DEFAULT_NAME = "miniml"
"""The default of the pipelines' argument service_name."""
SECONDS_TO_LIST, SECONDS_TO_ANSWER = 5, 60


@dataclass(frozen=True)
class LocalService:
    """A predictor that `serve` has started on this machine."""

    url: str
    name: str
    pid: int

    def write(self, outputs: Path) -> None:
        """Writes the service to a file beside the runs, where other terminals find it."""
        _file(outputs).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def find(cls, outputs: Path) -> LocalService | None:
        """Returns the service that was started last, if its process still runs."""
        with suppress(OSError, ValueError, TypeError):
            service = cls(**json.loads(_file(outputs).read_bytes()))
            os.kill(service.pid, 0)
            return service
        return None


def _file(outputs: Path) -> Path:
    return outputs / "serving.json"


def add(commands: Any) -> None:
    """Adds the command to what a parser's `add_subparsers` returned."""
    parser = commands.add_parser(
        "predict", help="ask a live service", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("text", nargs="+", help="a text to predict")
    parser.add_argument(
        "--url",
        default=os.environ.get("MINIML_URL", ""),
        help="the address of the service; without it, the one that `serve` runs here, or one of the current cluster",
    )
    parser.add_argument(
        "--service-name",
        default="",
        help=f"the name of the service; without it, the only one at the URL, or {DEFAULT_NAME}",
    )
    parser.add_argument(
        "--namespace",
        default="",
        help=f"the namespace of a service on a cluster; without it, {SERVING_NAMESPACE}",
    )
    parser.add_argument("--outputs", type=Path, default=OUTPUTS, help="where runs are kept")
    parser.set_defaults(command=_predict)


def _predict(options: argparse.Namespace) -> None:
    if not all(text.strip() for text in options.text):
        raise InputError("there is no text to predict of. Give some: predict 'A wonderful film.', or TEXT=….")
    for text, answer in zip(options.text, _answers(options), strict=True):
        print(plain(f'"{text}"\n  -> {describe_answer(answer)}'))


def _answers(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.url:
        _require_address(options.url)
        return _ask(options.url, options.service_name or _only_name(options.url), options.text)
    here = None if options.namespace else LocalService.find(options.outputs)
    if here and options.service_name in ("", here.name):
        print(f"miniml: asking {here.name} at {here.url}", flush=True)
        return _ask(here.url, here.name, options.text)
    return _ask_cluster(options)


def _ask_cluster(options: argparse.Namespace) -> list[dict[str, Any]]:
    # Only here: these import the Kubernetes client, which takes longer than most commands.
    from miniml.cluster.api import BRIEFLY, Cluster
    from miniml.deployment.smoke_test import ask_by_name

    try:
        cluster = Cluster.connect(BRIEFLY)
    except ClusterError as error:
        raise ClusterError(
            f"{error} For a model on this machine, start `miniml serve` or `make serve`; for one elsewhere, name its "
            f"--url."
        ) from error
    return ask_by_name(
        cluster, options.namespace or SERVING_NAMESPACE, options.service_name or DEFAULT_NAME, options.text
    )


def _require_address(url: str) -> None:
    """Requires the address of a web server.

    Raises:
        InputError: it is something else.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(
            f"--url is {quoted(url)}, without http:// or https://. Write {quoted(f'http://{url}')}."
        )


def _only_name(url: str) -> str:
    """Returns the name of the only model served there; the default where the server lists none or several."""
    with suppress(requests.RequestException, ValueError, KeyError, TypeError):
        answer = requests.get(
            f"{url.rstrip('/')}/v1/models", headers=authorization(), timeout=SECONDS_TO_LIST
        )
        [name] = answer.json()["models"]
        return str(name)
    return DEFAULT_NAME


def _ask(url: str, name: str, texts: list[str]) -> list[dict[str, Any]]:
    address = f"{url.rstrip('/')}/v1/models/{name}:predict"
    try:
        answer = requests.post(
            address, json={"instances": texts}, headers=authorization(), timeout=SECONDS_TO_ANSWER
        )
    except requests.RequestException as error:
        raise SubmissionError(
            f"nothing answers at {address} ({type(error).__name__}). Check --url."
        ) from error
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise SubmissionError(f"{address} asks for a token. Set {CREDENTIAL}.")
    if not answer.ok:
        raise SubmissionError(f"{address} answers {answer.status_code}: {answer.text[:300]}")
    try:
        predictions: list[dict[str, Any]] = answer.json()["predictions"]
        if len(predictions) == len(texts) and all(
            "probabilities" in one or "value" in one for one in predictions
        ):
            return predictions
    except (ValueError, KeyError, TypeError):
        pass  # The error below covers this, too.
    raise SubmissionError(
        f"{address} answers what miniml's predictor would not: {answer.text[:300]!r}. Check --url and --service-name."
    )
