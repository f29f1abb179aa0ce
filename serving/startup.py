"""From command line to running server: everything that can be wrong is found before the port opens."""

from __future__ import annotations

import argparse
import logging
import re
import socket
import warnings
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import FastAPIDeprecationWarning
from kserve.model_server import app
from kserve.model_server import parser as kserve_parser

from miniml import __version__
from miniml.classifier import Classifier
from miniml.errors import InputError
from serving import errors
from serving.grpc import Certificate, GrpcServer, interceptors
from serving.inference import Inference
from serving.predictor import Predictor
from serving.routes import docs_route, predict_route
from serving.server import JsonBodies, Server
from serving.settings import Limits


def options() -> argparse.Namespace:
    """The command line's options: KServe's, with defaults of ours, and the model folder."""
    parser = argparse.ArgumentParser(
        "python -m serving",
        description="Serves a model folder over KServe's protocols.",
        parents=[kserve_parser],
    )
    parser.add_argument(
        "--model_dir", "--model-dir", type=Path, required=True, help="what the train stage wrote"
    )
    # KServe spells its own with underscores; both spellings are good.
    parser.add_argument("--model-name", dest="model_name", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--http-port", dest="http_port", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--grpc-port", dest="grpc_port", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.set_defaults(
        model_name="miniml",
        enable_docs_url=True,
        enable_grpc=True,
        enable_latency_logging=False,  # three lines a request
    )
    return parser.parse_args()


def serve(options: argparse.Namespace) -> None:
    """Loads the model and serves it until a signal comes.

    Raises:
        InputError: an option cannot be used; the message names it.
        ModelFolderError: the model folder is refused.
    """
    _keep_quiet()
    _require_usable(options)
    classifier = Classifier.load(options.model_dir)
    inference = Inference(classifier)
    furnish(app, inference, docs=options.enable_docs_url)
    url = f"http{'s' if options.ssl_certfile else ''}://127.0.0.1:{options.http_port}"
    also = f" and gRPC at 127.0.0.1:{options.grpc_port}" if options.enable_grpc else ""
    server = Server(
        f"serving {options.model_name!r} at {url}{also} (labels: {', '.join(classifier.labels)})",
        _grpc(options),
        http_port=options.http_port,
        enable_latency_logging=options.enable_latency_logging,
    )
    server.start([Predictor(options.model_name, inference)])


def _grpc(options: argparse.Namespace) -> GrpcServer | None:
    if not options.enable_grpc:
        return None
    certificate = (
        Certificate(chain=Path(options.ssl_certfile), key=Path(options.ssl_keyfile))
        if options.ssl_certfile and options.ssl_keyfile
        else None
    )
    return GrpcServer(
        options.grpc_port, interceptors(), message_bytes=Limits().body_bytes, certificate=certificate
    )


def furnish(app: FastAPI, inference: Inference, *, docs: bool) -> None:
    """Puts our routes, error form and reading of bodies on KServe's application, before KServe adds its own."""
    app.title, app.version = "miniml", __version__
    app.include_router(predict_route(inference))
    if docs and not app.docs_url:
        app.include_router(docs_route("miniml", "/openapi.json"))
    app.add_middleware(JsonBodies)
    errors.install(app)


def _keep_quiet() -> None:
    """Only what someone should look at is logged; KServe leaves logging alone that is configured already."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # KServe 0.21 answers V1 with a class that FastAPI would rather see gone.
    warnings.filterwarnings("ignore", category=FastAPIDeprecationWarning)


def _require_usable(options: argparse.Namespace) -> None:
    if not re.fullmatch(r"[\w.-]+", options.model_name, re.ASCII):
        raise InputError(
            f"model_name {options.model_name!r} cannot be part of an address. Use letters, digits, '.', '_' and '-'."
        )
    if options.workers != 1:
        raise InputError(
            f"workers is {options.workers}, but one process answers: torch uses all processors. Raise replicas instead."
        )
    _require_free("http_port", options.http_port)
    if options.enable_grpc:
        if options.grpc_port == options.http_port:
            raise InputError(f"http_port and grpc_port are both {options.http_port}. Give each its own.")
        _require_free("grpc_port", options.grpc_port)


def _require_free(name: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise InputError(f"{name} is {port}; ports lie between 1 and 65535.")
    with socket.socket() as probe:
        # As uvicorn will ask for it: what an ended server's connections still hold counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  # KServe listens on every interface
        except OSError as error:
            raise InputError(
                f"{name} {port} cannot be used ({error.strerror}). Choose another with --{name}."
            ) from error
