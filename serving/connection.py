"""What a connection may take before its request has come: bytes, seconds, and a place among the others.

Nobody has shown a token then, so that all of it is held against whoever can reach the port.
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
    """The head of a request is larger than one may be."""


class PendingConnections:
    """The connections whose client has the next word, the one that has had it longest first."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self._bytes: dict[Connection, int] = {}
        """Of a body that is not whole, by connection."""
        self._in_all = 0

    def add(self, connection: Connection) -> None:
        self._bytes.setdefault(connection, 0)

    def discard(self, connection: Connection) -> None:
        self._in_all -= self._bytes.pop(connection, 0)

    def count(self, connection: Connection, size: int) -> None:
        """Notes `size` bytes more of a body; beyond what all may hold, those that began first are dropped."""
        if connection not in self._bytes:
            return
        self._bytes[connection] += size
        self._in_all += size
        while self._in_all > self.settings.unfinished_bytes:
            self.evict_oldest(holding=True)

    def evict_oldest(self, *, holding: bool = False) -> bool:
        """Makes room: closes the connection that has had the word longest, and says whether there was one.

        Args:
            holding: to look only at those that hold a part of a body.
        """
        for connection, size in self._bytes.items():
            if size or not holding:
                self.discard(connection)
                connection.transport.abort()
                return True
        return False


class Connection(HttpToolsProtocol):
    """Uvicorn's, whose client has to send a request of a certain size, and take its answer, within a certain time."""

    def __init__(self, *arguments: Any, pending: PendingConnections, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._pending = pending
        self._settings = pending.settings
        self._receive_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._beside_body = 0
        """Bytes of the request at hand that are no body, less as many as its body has."""
        self._before_head = True
        """Whether what comes next is a request's head, or more of it."""
        self._refusal = (HTTPStatus.BAD_REQUEST, "this is no request in HTTP/1.1, which is spoken here.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        full = len(self.connections) > self._settings.connections
        if full and not self._pending.evict_oldest():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open. Try again in 1 s.")
            return
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_is_here()
        self._answer_is_taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._receive_timer and (self.cycle is None or self.cycle.response_complete):
            self._await_request()
        if not self.transport.get_write_buffer_size():
            self._answer_is_taken()
        self._beside_body += len(data)
        super().data_received(self._without_upgrade(data))
        # Half a head, the pieces that a body is sent in, and what may follow it.
        if self._beside_body > self._settings.head_bytes and not self.transport.is_closing():
            self._refuse(*self._too_large())

    def _without_upgrade(self, data: bytes) -> bytes:
        """The data, with a head's `Upgrade` renamed: who offers HTTP/2 is answered in HTTP/1.1 (RFC 9110, 7.8).

        The parser would end at it, and leave the body unread.
        """
        if not self._before_head:
            return data
        end = data.find(b"\r\n\r\n")
        end = end if end >= 0 else len(data)
        if not UPGRADE.search(data, 0, end):
            return data  # as nearly always, without a copy of the body that came along
        return UPGRADE.sub(b"\r\nx-asked:", data[:end]) + data[end:]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._receive_timer:
            self._await_request()

    def on_headers_complete(self) -> None:
        self._before_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._settings.head_bytes:
            self._refusal = self._too_large()
            raise HeadError  # the parser ends with it, and uvicorn answers by send_400_response
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside_body -= 2 * len(body)
        self._pending.count(self, len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._beside_body = 0
        self._before_head = True
        self._request_is_here()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_taking()
        self._pending.add(self)

    def pause_writing(self) -> None:
        self._await_taking()
        super().pause_writing()

    def resume_writing(self) -> None:
        if self.cycle is None or not self.cycle.response_complete:
            self._answer_is_taken()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
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
            self._await_request()  # it is this side that is late
            return
        if self.cycle and self.cycle.scope is self.scope and self.cycle.response_started:
            self.transport.abort()  # it was answered, by a refusal, before its end
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
        """Answers in place of the application, and closes; the rest of what the client sends is not read."""
        body = json.dumps({"error": error}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._await_taking()
