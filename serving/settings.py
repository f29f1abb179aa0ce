"""Defines the server's settings, each with its default and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miniml.ports import GRPC_PORT, HTTP_PORT

from .authentication import Token

CONCURRENT_BODIES = 16
"""The number of bodies of the largest size that may arrive at the same time."""


@dataclass(frozen=True)
class Limits:
    """Limits on the size of a request; an answer to a larger one names the limit."""

    body_bytes: int = 8 * 2**20
    """The size of one request over REST or gRPC, in bytes: some 1,000 long reviews."""
    texts: int = 1_000
    """The number of texts in one request."""
    characters: int = 100_000
    """The number of characters in one text. The model reads only the first (or last) few hundred tokens of it."""


@dataclass(frozen=True)
class ConnectionSettings:
    """Limits on what a client may use before its request is complete, and so before its token is checked."""

    connections: int = 400
    """The number of open connections over HTTP, and over gRPC: a process commonly may open 1,024 files. With more, over
    HTTP, the connection that has waited longest for its client is closed."""
    head_bytes: int = 32 * 2**10
    """The size of a request without its body, in bytes."""
    transfer_s: float = 30.0
    """The seconds in which a request has to arrive in full, and in which its answer has to be read. The largest request
    needs 2 Mbit/s."""
    unfinished_bytes: int = CONCURRENT_BODIES * Limits.body_bytes
    """The size of all unfinished bodies, in bytes; beyond it the oldest connections are closed."""


@dataclass(frozen=True)
class QueueSettings:
    """Limits on how much work may wait, and for how long."""

    texts: int = 2_000
    """The number of texts in the queue; a request that would exceed it is answered with 503."""
    timeout_s: float = 30.0
    """The seconds in which a request is answered or refused; a client's own deadline may be earlier."""


@dataclass(frozen=True)
class CacheSettings:
    """The cache of answers."""

    entries: int = 0
    """The number of answers to keep. 0, the default, keeps none, because clients can tell whether an answer was kept,
    and so what others have asked (decision 30).

    An entry takes some 200 bytes, and 4 for each label; of the text only a hash is kept.
    """
    ttl_s: float = 600.0
    """The seconds for which an answer is kept."""


@dataclass(frozen=True)
class ServingSettings:
    """All settings of the server."""

    model_dir: Path
    """The model folder that the train stage wrote."""
    expected_digest: str = ""
    """The digest that the folder's manifest must have, as deploy took it from the gate; "" allows any."""
    model_name: str = "miniml"
    """The name in the addresses of V1 and V2."""
    host: str = "127.0.0.1"
    """The address of this machine to listen on."""
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    engine: str = "auto"
    """The engine's name, or "auto" for the fastest that agrees with the reference."""
    limits: Limits = Limits()
    connections: ConnectionSettings = ConnectionSettings()
    queue: QueueSettings = QueueSettings()
    cache: CacheSettings = CacheSettings()
    token: Token | None = None
    """The token that clients must send; None requires none."""
    access_log: bool = True
    """Whether to write one line of JSON to standard output for each request to the model."""
