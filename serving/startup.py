"""Starts the server; whatever may be wrong is found before a port opens."""

from __future__ import annotations

import argparse
import errno
import gc
import logging
import os
import re
import socket
import warnings
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import FastAPIDeprecationWarning
from kserve.model_server import app

from miniml.errors import InputError
from miniml.escaping import printable
from miniml.model import quick_start
from miniml.model.manifest import require_digest
from miniml.processor import default_threads, has_idle_gpu, usable_processors, why_no_gpu

from . import errors
from .authentication import Authentication
from .bodies import BodyReader
from .grpc_server import Certificate, GrpcServer, interceptors
from .inference import Inference
from .logs import escape_output
from .methods import HeadAndOptions
from .openapi import document_of
from .options import settings_from
from .predictor import Predictor
from .request_log import RequestLogging, access_log
from .routes import add_pages, text_routes
from .server import JsonContentType, Server
from .settings import ServingSettings

logger = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> None:
    """Loads the model and serves it until a signal comes.

    Args:
        options: The parsed command line.

    Raises:
        InputError: An option has an unusable value; the message names it.
        ModelFolderError: The model folder is damaged, or has another digest than the expected one.
    """
    _configure_logging()
    _configure_libraries()
    _require_valid(options)
    settings = settings_from(options)
    if settings.expected_digest:
        require_digest(settings.model_dir, settings.expected_digest)
    classifier = quick_start.load(settings.model_dir)
    inference = Inference(classifier, settings.queue, settings.cache, settings.limits)
    if has_idle_gpu():
        logger.warning("there is a GPU here that torch cannot use: %s", why_no_gpu())
    choice = inference.start(settings.model_dir, settings.engine)
    logger.info(
        "measured at load, in ms, and the largest difference from %s:\n%s",
        classifier.engine.name,
        choice.measurements,
    )
    configure_app(app, inference, settings, docs=options.enable_docs_url)
    url = f"http{'s' if options.ssl_certfile else ''}://{settings.host}:{settings.http_port}"
    also = f" and gRPC at {settings.host}:{settings.grpc_port}" if options.enable_grpc else ""
    answers = f"labels: {', '.join(inference.labels)}" if inference.labels else "a number for each text"
    server = Server(
        printable(f"serving {settings.model_name!r} at {url}{also} ({answers})"),
        _grpc(options, settings),
        settings,
        http_port=settings.http_port,
        enable_latency_logging=options.enable_latency_logging,
    )
    # Frees the engines that were not chosen, and spares later collections from looking at what stays.
    gc.collect()
    gc.freeze()
    gc.enable()
    with access_log(settings.access_log):
        server.start([Predictor(settings.model_name, inference, inference.output_adapter)])


def _grpc(options: argparse.Namespace, settings: ServingSettings) -> GrpcServer | None:
    if not options.enable_grpc:
        return None
    certificate = (
        Certificate(chain=Path(options.ssl_certfile), key=Path(options.ssl_keyfile))
        if options.ssl_certfile and options.ssl_keyfile
        else None
    )
    return GrpcServer(
        settings.grpc_port,
        interceptors(settings.token),
        message_bytes=settings.limits.body_bytes,
        connections=settings.connections,
        certificate=certificate,
        host=settings.host,
    )


def configure_app(app: FastAPI, inference: Inference, settings: ServingSettings, *, docs: bool) -> None:
    """Adds our routes and middleware to KServe's application, before KServe adds its own routes.

    A request passes the middleware that is added last first: it is logged, its token is checked, its body is read, and
    later errors are answered in one form.

    Args:
        app: KServe's application.
        inference: Answers the texts.
        settings: The server's settings.
        docs: Whether to serve the OpenAPI document and its page.
    """
    app.include_router(text_routes(inference))
    document = document_of(inference, settings.model_name, token_needed=settings.token is not None)
    add_pages(app, inference, settings.model_name, document if docs else None)
    app.add_middleware(HeadAndOptions)
    app.add_middleware(JsonContentType)
    errors.install(app)
    app.add_middleware(BodyReader, limits=settings.limits)
    if settings.token:
        app.add_middleware(Authentication, token=settings.token)
    app.add_middleware(RequestLogging)
    # Again, for errors in the middleware itself.
    app.add_middleware(errors.UnexpectedErrors)


def _configure_libraries() -> None:
    """Sets what libraries read from the environment when they are imported, which may be much later."""
    # For torch, on whichever thread it runs.
    os.environ["OMP_NUM_THREADS"] = str(usable_processors(default_threads()))
    # Converting a model makes transformers warn about its loss.
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def _configure_logging() -> None:
    """Limits the log to what needs attention; KServe does not reconfigure logging."""
    logging.basicConfig(level=logging.WARNING)
    escape_output(logging.getLogger())
    logging.getLogger(__package__).setLevel(logging.INFO)
    # Clients that do not speak HTTP could fill the log with uvicorn's warnings.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # KServe 0.21 answers V1 with a class that FastAPI has deprecated.
    warnings.filterwarnings("ignore", category=FastAPIDeprecationWarning)


def _require_valid(options: argparse.Namespace) -> None:
    if not re.fullmatch(r"[\w.-]+", options.model_name, re.ASCII):
        raise InputError(
            f"model_name {options.model_name!r} cannot be part of an address. Use letters, digits, '.', '_' and '-'."
        )
    if options.workers != 1:
        raise InputError(
            f"workers is {options.workers}, but one process answers: torch uses all processors. Raise replicas instead."
        )
    _require_free("http_port", options.host, options.http_port)
    if options.enable_grpc:
        if options.grpc_port == options.http_port:
            raise InputError(f"http_port and grpc_port are both {options.http_port}. Give each its own.")
        _require_free("grpc_port", options.host, options.grpc_port)


def _require_free(name: str, host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise InputError(f"{name} is {port}; ports lie between 1 and 65535.")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # Uvicorn sets it too: a port that only closed connections of an ended server hold counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise InputError(
                    f"host {host!r} is no address of this machine ({error.strerror}). Give 127.0.0.1 for this machine "
                    f"alone, or 0.0.0.0 for all of its addresses."
                ) from error
            raise InputError(
                f"{name} {port} cannot be used ({error.strerror}). Choose another with --{name}."
            ) from error
