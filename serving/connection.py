"""Limits on what a connection may use before its request is complete: bytes, seconds, and one of the connections.

No token has been checked at that point, so these limits hold for anyone who can reach the port.
"""

from __future__ import annotations

import asyncio
import json
import re
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .settings import ConnectionSettings

UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class HeadError(Exception):
    """The head of a request is too large."""


class PendingConnections:
    """The connections that wait for their client to send, the one that has waited longest first."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self._bytes: dict[Connection, int] = {}
        """The number of bytes of an unfinished body that each connection holds."""
        self._total_bytes = 0

    def add(self, connection: Connection) -> None:
        """Adds a connection that waits for a request."""
        self._bytes.setdefault(connection, 0)

    def discard(self, connection: Connection) -> None:
        """Removes a connection whose request is complete, or that is closed."""
        self._total_bytes -= self._bytes.pop(connection, 0)

    def count(self, connection: Connection, size: int) -> None:
        """Counts `size` further bytes of a body, and evicts the oldest connections while all hold too many."""
        if connection not in self._bytes:
            return
        self._bytes[connection] += size
        self._total_bytes += size
        while self._total_bytes > self.settings.unfinished_bytes:
            self.evict_oldest(holding=True)

    def evict_oldest(self, *, holding: bool = False) -> bool:
        """Closes the connection that has waited longest.

        Args:
            holding: Consider only connections that hold a part of a body.

        Returns:
            Whether there was such a connection.
        """
        for connection, size in self._bytes.items():
            if size or not holding:
                self.discard(connection)
                connection.transport.abort()
                return True
        return False


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, with limits on the size of a request and on the time to send it and to read its answer."""

    def __init__(self, *arguments: Any, pending: PendingConnections, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._pending = pending
        self._settings = pending.settings
        self._receive_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._beside_body = 0
        """The bytes of the current request outside of its body, minus the bytes of its body."""
        self._before_head = True
        """Whether the next bytes belong to a request's head."""
        self._refusal = (HTTPStatus.BAD_REQUEST, "this is no request in HTTP/1.1, which is spoken here.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admits the connection, and starts to wait for its first request."""
        super().connection_made(transport)
        full = len(self.connections) > self._settings.connections
        if full and not self._pending.evict_oldest():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open. Try again in 1 s.")
            return
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the connection's timers."""
        self._request_is_here()
        self._answer_is_taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what the client sent, and refuses a request whose head or framing is too large."""
        if self.transport.is_closing():
            return
        if not self._receive_timer and (self.cycle is None or self.cycle.response_complete):
            self._await_request()
        if not self.transport.get_write_buffer_size():
            self._answer_is_taken()
        self._beside_body += len(data)
        super().data_received(self._without_upgrade(data))
        # An unfinished head, the framing of a chunked body, and its trailers.
        if self._beside_body > self._settings.head_bytes and not self.transport.is_closing():
            self._refuse(*self._too_large())

    def _without_upgrade(self, data: bytes) -> bytes:
        """Renames the header `Upgrade` in a head, so that a client that offers HTTP/2 is answered in HTTP/1.1.

        A server may ignore the offer (RFC 9110, HTTP Semantics, section 7.8); the parser would stop there, and leave
        the body unread.
        """
        if not self._before_head:
            return data
        end = data.find(b"\r\n\r\n")
        end = end if end >= 0 else len(data)
        if not UPGRADE.search(data, 0, end):
            # The usual case, without a copy of the body.
            return data
        return UPGRADE.sub(b"\r\nx-asked:", data[:end]) + data[end:]

    def on_message_begin(self) -> None:
        """Starts to wait for a request that follows another in the same data."""
        super().on_message_begin()
        if not self._receive_timer:
            self._await_request()

    def on_headers_complete(self) -> None:
        """Refuses a head that is too large."""
        self._before_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._settings.head_bytes:
            self._refusal = self._too_large()
            # The parser stops at it, and uvicorn calls send_400_response.
            raise HeadError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Counts a part of the body."""
        self._beside_body -= 2 * len(body)
        self._pending.count(self, len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stops waiting: the request is complete."""
        self._beside_body = 0
        self._before_head = True
        self._request_is_here()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Starts to wait for the client to read the answer and to send its next request."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_taking()
        self._pending.add(self)

    def pause_writing(self) -> None:
        """Starts to wait for a client that reads its answer slowly."""
        self._await_taking()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Stops waiting for the client to read, unless the answer is complete and a part of it unread."""
        if self.cycle is None or not self.cycle.response_complete:
            self._answer_is_taken()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuses a request that the parser rejects, with our own message."""
        self._refuse(*self._refusal)

    def _await_request(self) -> None:
        self._pending.add(self)
        self._receive_timer = self.loop.call_later(self._settings.transfer_s, self._is_late)

    def _request_is_here(self) -> None:
        self._pending.discard(self)
        if self._receive_timer:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _await_taking(self) -> None:
        if not self._send_timer:
            self._send_timer = self.loop.call_later(self._settings.transfer_s, self._is_not_taken)

    def _answer_is_taken(self) -> None:
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None

    def _is_not_taken(self) -> None:
        self._send_timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _is_late(self) -> None:
        self._receive_timer = None
        if self.flow.read_paused:
            # The server is late, not the client.
            self._await_request()
            return
        if self.cycle and self.cycle.scope is self.scope and self.cycle.response_started:
            # The request was refused before its end.
            self.transport.abort()
            return
        late = (
            f"the request was not here, to its end, within {self._settings.transfer_s:g} s. Send it faster."
        )
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, late)

    def _too_large(self) -> tuple[HTTPStatus, str]:
        return (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"the request has more than the {self._settings.head_bytes} bytes that one may have beside its body. "
            f"Send fewer or shorter headers, and the body in larger pieces.",
        )

    def _refuse(self, status: HTTPStatus, error: str) -> None:
        """Answers in place of the application, and closes without reading what else the client sends."""
        body = json.dumps({"error": error}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._await_taking()
