"""What the tests' small HTTP servers have in common: a free port, a thread, JSON in and out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class JsonHandler(BaseHTTPRequestHandler):
    """Reads bodies, answers JSON, prints nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, method: str) -> None:
        """Reads the request's body and sends one answer, or cuts the connection."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PATCH(self) -> None:
        self.answer("PATCH")

    def do_DELETE(self) -> None:
        self.answer("DELETE")

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send_answer(self, code: int, answer: Any) -> None:
        """Sends JSON; a string as it is; what an iterator gives as it comes, None being a cut of the connection."""
        if isinstance(answer, Iterator):
            self._send_as_it_comes(code, answer)
            return
        content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_as_it_comes(self, code: int, answer: Iterator[str | None]) -> None:
        self.send_response(code)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in answer:
            if part is None:
                self.cut()
                return
            content = part.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Ends the connection without an answer."""
        self.close_connection = True


class LocalServer:
    """Serves on a free port of this machine for as long as the context lasts, at `url`."""

    url: str = ""

    def handler(self) -> type[JsonHandler]:
        """Made once, when the server starts."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
