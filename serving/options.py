"""Parses the command line: KServe's options, with our defaults, and our own options."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kserve.model_server import parser as kserve_parser

from miniml.command_line import CommandParser
from miniml.errors import InputError
from miniml.ports import GRPC_PORT, HTTP_PORT

from .authentication import Token
from .engine_choice import AUTO
from .settings import (
    CONCURRENT_BODIES,
    CacheSettings,
    ConnectionSettings,
    Limits,
    QueueSettings,
    ServingSettings,
)

HOST = "MINIML_HOST"
"""The environment variable that gives the address to listen on, where the command line does not."""


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line: KServe's options with defaults of ours, and our own."""
    parser = CommandParser(
        f"python -m {__package__}",
        description="Serves a model folder over KServe's protocols.",
        parents=[kserve_parser],
    )
    limits, queue, cache = Limits(), QueueSettings(), CacheSettings()
    connections = ConnectionSettings()
    add = parser.add_argument
    add("--model_dir", type=Path, required=True, help="what the train stage wrote")
    add("--expected_digest", default="", help="what the model folder must be signed as; any other is refused")
    add(
        "--engine",
        default=AUTO,
        help=f"what runs the model: {AUTO} (the fastest as measured), or one by name",
    )
    add(
        "--host",
        default=os.environ.get(HOST, "127.0.0.1"),
        help=f"the address to listen at (or {HOST}, which the image sets to 0.0.0.0: all of a container's)",
    )
    add("--max_body_bytes", type=int, default=limits.body_bytes, help="of one request")
    add("--max_texts", type=int, default=limits.texts, help="in one request")
    add("--max_characters", type=int, default=limits.characters, help="in one text")
    add("--max_head_bytes", type=int, default=connections.head_bytes, help="of one request, beside its body")
    add("--max_connections", type=int, default=connections.connections, help="at a time, HTTP and gRPC each")
    add(
        "--transfer_timeout",
        type=float,
        default=connections.transfer_s,
        help="seconds in which a request has to come, and its answer to be taken",
    )
    add(
        "--queue_texts",
        type=int,
        default=queue.texts,
        help="texts that may wait; beyond them the answer is 503",
    )
    add("--request_timeout", type=float, default=queue.timeout_s, help="seconds in which to answer a request")
    add(
        "--cache_entries",
        type=int,
        default=cache.entries,
        help="answers that are kept; clients can tell that a text was asked before, so 0, the default, keeps none",
    )
    add("--cache_ttl", type=float, default=cache.ttl_s, help="seconds for which an answer is kept")
    add("--token_file", type=Path, help="a file with the token to ask clients for (or MINIML_TOKEN)")
    add("--no_access_log", dest="access_log", action="store_false", help="no line of JSON for each request")
    parser.set_defaults(
        model_name="miniml",
        http_port=HTTP_PORT,
        grpc_port=GRPC_PORT,
        enable_docs_url=True,
        enable_grpc=True,
        # It would log three lines for each request.
        enable_latency_logging=False,
    )
    return parser


def parse_arguments() -> argparse.Namespace:
    """Parses the command line; exits with status 2 where it is wrong."""
    options: argparse.Namespace = parser().parse_args([_with_underscores(word) for word in sys.argv[1:]])
    return options


def _with_underscores(word: str) -> str:
    """Lets every option be written with dashes too; KServe spells its own with underscores."""
    name, equals, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if name.startswith("--") else word


def settings_from(options: argparse.Namespace) -> ServingSettings:
    """Returns the settings that the options stand for.

    Raises:
        InputError: An option has an unusable value; the message names it.
    """
    for name in (
        "max_body_bytes",
        "max_texts",
        "max_characters",
        "max_head_bytes",
        "max_connections",
        "transfer_timeout",
        "queue_texts",
        "request_timeout",
        "cache_ttl",
    ):
        if getattr(options, name) <= 0:
            raise InputError(f"--{name} is {getattr(options, name)}. Give a number above 0.")
    if options.cache_entries < 0:
        raise InputError(f"--cache_entries is {options.cache_entries}. Give 0 for no cache, or more.")
    return ServingSettings(
        model_dir=options.model_dir,
        expected_digest=options.expected_digest,
        model_name=options.model_name,
        host=options.host,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        engine=options.engine,
        limits=Limits(options.max_body_bytes, options.max_texts, options.max_characters),
        connections=ConnectionSettings(
            options.max_connections,
            options.max_head_bytes,
            options.transfer_timeout,
            unfinished_bytes=CONCURRENT_BODIES * options.max_body_bytes,
        ),
        queue=QueueSettings(options.queue_texts, options.request_timeout),
        cache=CacheSettings(options.cache_entries, options.cache_ttl),
        token=Token.of(options.token_file),
        access_log=options.access_log,
    )
