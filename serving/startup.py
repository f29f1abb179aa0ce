"""From command line to running server: everything that can be wrong is found before the port opens."""

from __future__ import annotations

import argparse
import errno
import gc
import logging
import re
import socket
import warnings
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import FastAPIDeprecationWarning
from kserve.model_server import app
from transformers.utils import logging as transformers_logging

from miniml.errors import InputError
from miniml.escaping import printable
from miniml.model.classifier import Classifier
from miniml.model.engines import REFERENCE
from miniml.model.manifest import require_digest
from serving import errors
from serving.authentication import Authentication
from serving.bodies import WholeBodies
from serving.grpc import Certificate, GrpcServer, interceptors
from serving.inference import Inference
from serving.logs import keep_readable
from serving.methods import HeadAndOptions
from serving.observation import Observation, access_log
from serving.openapi import document_of
from serving.options import settings_of
from serving.predictor import Predictor
from serving.routes import add_pages, questions
from serving.server import JsonBodies, Server
from serving.settings import ServingSettings

logger = logging.getLogger(__name__)


def serve(options: argparse.Namespace) -> None:
    """Loads the model and serves it until a signal comes.

    Raises:
        InputError: an option cannot be used; the message names it.
        ModelFolderError: the model folder is refused.
    """
    _keep_quiet()
    _require_usable(options)
    settings = settings_of(options)
    if settings.expected_digest:
        require_digest(settings.model_dir, settings.expected_digest)
    inference = Inference(
        Classifier.load(settings.model_dir), settings.queue, settings.cache, settings.limits
    )
    choice = inference.start(settings.model_dir, settings.engine)
    logger.info("measured at load, in ms, and the largest difference from %s:\n%s", REFERENCE, choice.table)
    furnish(app, inference, settings, docs=options.enable_docs_url)
    url = f"http{'s' if options.ssl_certfile else ''}://{settings.host}:{settings.http_port}"
    also = f" and gRPC at {settings.host}:{settings.grpc_port}" if options.enable_grpc else ""
    told = f"labels: {', '.join(inference.labels)}" if inference.labels else "a number for each text"
    server = Server(
        printable(f"serving {settings.model_name!r} at {url}{also} ({told})"),
        _grpc(options, settings),
        settings,
        http_port=settings.http_port,
        enable_latency_logging=options.enable_latency_logging,
    )
    gc.collect()  # the engines that were not chosen
    gc.freeze()  # what is loaded stays, so no collection need look at it again
    gc.enable()
    with access_log(settings.access_log):
        server.start([Predictor(settings.model_name, inference, inference.form)])


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


def furnish(app: FastAPI, inference: Inference, settings: ServingSettings, *, docs: bool) -> None:
    """Puts what is ours on KServe's application, before KServe adds its own.

    A request passes what is added last first: it is observed, then it has to bring the token, then its body
    is read, and what goes wrong from there on is answered in one form.
    """
    app.include_router(questions(inference))
    document = document_of(inference, settings.model_name, token_needed=settings.token is not None)
    add_pages(app, inference, settings.model_name, document if docs else None)
    app.add_middleware(HeadAndOptions)
    app.add_middleware(JsonBodies)
    errors.install(app)
    app.add_middleware(WholeBodies, limits=settings.limits)
    if settings.token:
        app.add_middleware(Authentication, token=settings.token)
    app.add_middleware(Observation)
    app.add_middleware(errors.UnexpectedErrors)  # of those before it too


def _keep_quiet() -> None:
    """Only what someone should look at is logged; KServe leaves logging alone that is configured already."""
    logging.basicConfig(level=logging.WARNING)
    keep_readable(logging.getLogger())
    logging.getLogger("serving").setLevel(logging.INFO)
    # What is no HTTP is the sender's to mend, who could fill the log with it.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # converting a model makes it wonder about its loss
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
    _require_free("http_port", options.host, options.http_port)
    if options.enable_grpc:
        if options.grpc_port == options.http_port:
            raise InputError(f"http_port and grpc_port are both {options.http_port}. Give each its own.")
        _require_free("grpc_port", options.host, options.grpc_port)


def _require_free(name: str, host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise InputError(f"{name} is {port}; ports lie between 1 and 65535.")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As uvicorn will ask for it: what an ended server's connections still hold counts as free.
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
