"""What can be set at the server, each with its default and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from miniml.ports import GRPC_PORT, HTTP_PORT
from serving.authentication import Token

BODIES_AT_ONCE = 16
"""Of the largest size, that may be on their way."""


@dataclass(frozen=True)
class Limits:
    """The largest request that is read; beyond it the answer names the limit."""

    body_bytes: int = 8 * 2**20
    """Of one request, REST or gRPC: some 1,000 long reviews."""
    texts: int = 1_000
    """In one request."""
    characters: int = 100_000
    """In one text. Only its first (or last) few hundred tokens count, but all of it is tokenized."""


@dataclass(frozen=True)
class ConnectionSettings:
    """What a client may take up before its request has come, and so before any token is read."""

    connections: int = 400
    """That are open at a time, over HTTP and over gRPC each: a process commonly may open 1,024 files. Beyond it, over
    HTTP, the one that has owed a request for longest is closed."""
    head_bytes: int = 32 * 2**10
    """Of a request, beside its body."""
    transfer_s: float = 30.0
    """In which a request has to come, to the end of its body, and its answer to be taken. The largest takes it at
    2 Mbit/s."""
    unfinished_bytes: int = BODIES_AT_ONCE * Limits.body_bytes
    """Of bodies that have not come to their end; beyond it, those that began first are dropped."""


@dataclass(frozen=True)
class QueueSettings:
    """How much work may wait, and for how long."""

    texts: int = 2_000
    """That wait for the engine; a request that would exceed it is turned away with 503."""
    timeout_s: float = 30.0
    """In which a request is to be answered, where it brings no deadline of its own."""


@dataclass(frozen=True)
class CacheSettings:
    """How many answers are kept, and for how long."""

    entries: int = 0
    """0 keeps none. Whoever may ask can tell whether an answer was kept, and so what others have asked (decision 30).

    An entry takes some 200 bytes and 4 a label; the text is not kept, but its hash.
    """
    ttl_s: float = 600.0


@dataclass(frozen=True)
class ServingSettings:
    """All of it."""

    model_dir: Path
    expected_digest: str = ""
    """What the folder must be signed as, where that is said: deploy says what the gate signed off."""
    model_name: str = "miniml"
    host: str = "127.0.0.1"
    """The address of this machine to listen at."""
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    engine: str = "auto"
    limits: Limits = Limits()
    connections: ConnectionSettings = ConnectionSettings()
    queue: QueueSettings = QueueSettings()
    cache: CacheSettings = CacheSettings()
    token: Token | None = None
    """What a client must send; None asks for nothing."""
    access_log: bool = True
    """One line of JSON on standard output for each request that asks the model."""
