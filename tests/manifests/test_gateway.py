"""The gateway, in a real nginx: who may ask, and whom the question reaches."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import patience
from tests.command import ROOT
from tests.ports import free_port

MANIFESTS = ROOT / "manifests"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
OPEN = "default 1;"
EXAMPLE = (MANIFESTS / "overlays" / "production" / "access.conf.example").read_text()
TOKEN = "Bearer " + "0a" * 32
TOKENS = EXAMPLE + f'"{TOKEN}" 1;\n'

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)")


class Predictor(BaseHTTPRequestHandler):
    """Answers with what it was asked; but for /fails?STATUS, and for /never."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if "/never" in self.path:
            self.connection.recv(1)  # until the gateway gives it up
            return
        if "/fails?" in self.path:
            self.send_response(int(self.path.partition("?")[2]))
            self.end_headers()
            self.wfile.write(b"the model's own words")
            return
        answer = f"{self.path} {self.headers.get('authorization')} {body.decode()}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def predictor() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Predictor)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


class UnknownNames(socketserver.BaseRequestHandler):
    """A DNS server that knows no name, and says so of all but "silent"."""

    def handle(self) -> None:
        query, client = self.request
        if b"silent" not in query:
            # Its id, "an answer: no such name", and the question as it came (RFC 1035, 4.1.1).
            client.sendto(query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:], self.client_address)


@pytest.fixture(scope="module")
def dns() -> Iterator[int]:
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), UnknownNames) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


UPSTREAM = "http://$service-predictor.$namespace.svc.cluster.local"
HEAD_TIMEOUT = "client_header_timeout 10s;"
RESOLVER = "resolver kube-dns.kube-system.svc.cluster.local"


def start(
    folder: Path, access: str | None, predictor: int, changed: dict[str, str]
) -> tuple[subprocess.Popen[str], str]:
    """nginx with the gateway's configuration, but for addresses: every predictor is ours, its name in the path.

    `changed` are more words of the configuration, and what they are to be.
    """
    port = free_port()
    text = (MANIFESTS / "components" / "gateway" / "nginx.conf").read_text()
    changes = {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        HEAD_TIMEOUT: f"client_header_timeout {patience.SECONDS:.0f}s;",
        "/tmp/": f"{folder}/",
        "/etc/miniml-access/": f"{folder}/",
        "/dev/stdout": f"{folder}/log",
        RESOLVER: "resolver 127.0.0.1",
        UPSTREAM: UPSTREAM.replace("http://", f"http://127.0.0.1:{predictor}/"),
    }
    for ours, here in (changes | changed).items():
        assert ours in text
        text = text.replace(ours, here)
    (folder / "nginx.conf").write_text(text)
    if access is not None:
        (folder / "access.conf").write_text(access)
    command = [str(NGINX), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True), f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module", params=[OPEN, TOKENS], ids=["open", "tokens"])
def gateway(request: pytest.FixtureRequest, predictor: int) -> Iterator[tuple[str, str]]:
    """What it was told of who may ask, and its address."""
    with running(predictor, request.param) as (_, url, _):
        yield request.param, url


@contextlib.contextmanager
def running(
    predictor: int, access: str = OPEN, changed: dict[str, str] | None = None
) -> Iterator[tuple[Path, str, subprocess.Popen[str]]]:
    """A gateway before `predictor`: its folder, its address, and its process."""
    # Not pytest's own folder: nginx' workers are another user, who may not enter that.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        process, url = start(Path(folder), access, predictor, changed or {})
        try:
            patience.wait_until(lambda: answers(url, process))
            yield Path(folder), url, process
        finally:
            process.terminate()
            process.communicate()


def answers(url: str, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, "nginx ended"
    try:
        return requests.get(f"{url}/healthz", timeout=patience.SECONDS).text == "ok\n"
    except requests.ConnectionError:
        return False


def test_a_question_reaches_the_service_that_its_path_names(gateway: tuple[str, str]) -> None:
    _, url = gateway
    path = "/models/stars/v1/models/stars:predict?a=b%20c"
    answer = requests.post(url + path, data='{"instances": []}', headers={"Authorization": TOKEN})
    upstream = "/stars-predictor.models.svc.cluster.local/v1/models/stars:predict?a=b%20c"
    # The token is the gateway's business, not the model's.
    assert answer.text == f'{upstream} None {{"instances": []}}'


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer 1"}, {"Authorization": "Bearer " + "0b" * 32}]
)
def test_where_there_are_tokens_nobody_asks_without_one(
    gateway: tuple[str, str], headers: dict[str, str]
) -> None:
    access, url = gateway
    answer = requests.post(f"{url}/models/stars/predict", data="{}", headers=headers)
    assert answer.status_code == (200 if access == OPEN else 401)
    if access != OPEN:
        assert "Authorization: Bearer <token>" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/models", "/models/stars", "/a.b/stars/predict", "/a/b.c/predict"])
def test_a_path_that_names_no_service_says_how_to_ask(gateway: tuple[str, str], path: str) -> None:
    answer = requests.post(gateway[1] + path, data="{}", headers={"Authorization": TOKEN})
    assert answer.status_code == 404
    assert "/<namespace>/<service>/predict" in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/predict%0d%0aX-Evil:%201",
        "/predict%3Fa=b",
        "/predict%23a",
        "/v1/models/a%2Fb",
        "/v1/models/%E2%82%AC",
        "//predict",
        "/../../other/stars/predict",
        "/%2e%2e/%2e%2e/other/stars/predict",
        "/predict?a=%0d%0a&b",
        "/predict%00",
    ],
)
def test_a_path_is_passed_on_as_its_client_wrote_it(gateway: tuple[str, str], path: str) -> None:
    status, body = raw(gateway[1], f"GET /models/stars{path} HTTP/1.1\r\nAuthorization: {TOKEN}")
    if status != 400:  # nginx itself refuses a NUL, and a path that leaves its root
        assert body.startswith(f"/stars-predictor.models.svc.cluster.local{path} ")


def test_what_the_client_calls_the_host_is_not_passed_on(gateway: tuple[str, str]) -> None:
    status, body = raw(
        gateway[1], f"GET /models/stars/host HTTP/1.1\r\nAuthorization: {TOKEN}", host="evil.example"
    )
    assert (status, "evil" in body) == (200, False)


def raw(url: str, head: str, host: str = "x") -> tuple[int, str]:
    """The status and body of the answer to a request that no client library would send."""
    with connect(url) as client:
        client.sendall(f"{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = client.makefile("rb").read().decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=patience.SECONDS)


HALF = b"POST /models/stars/predict HTTP/1.1\r\nHost: x\r\n"


def test_heads_that_are_half_sent_keep_nobody_out(gateway: tuple[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(connect(gateway[1])).sendall(HALF)
        assert requests.get(f"{gateway[1]}/healthz", timeout=patience.SECONDS).text == "ok\n"


def test_a_head_that_does_not_come_to_its_end_is_given_up(predictor: int) -> None:
    with (
        running(predictor, changed={HEAD_TIMEOUT: "client_header_timeout 1s;"}) as (_, url, _),
        connect(url) as client,
    ):
        client.sendall(HALF)
        with contextlib.suppress(ConnectionResetError):
            assert not client.recv(1)


def test_a_question_that_no_predictor_answers_is_logged_without_a_word_of_the_clients() -> None:
    escape = "\x1b]0;gone\x07"
    with running(free_port()) as (folder, url, process):  # nobody listens there
        head = f"GET /models/stars/\x9b2J HTTP/1.1\r\nReferer: {escape}\r\nUser-Agent: {escape}"
        assert raw(url, head)[0] == 502
        log = folder / "log"
        patience.wait_until(log.read_text)
        line = json.loads(log.read_text())
        process.terminate()
        assert process.stderr
        said = process.stderr.read()
    assert (line["status"], line["service"]) == (502, "stars")
    assert "\x1b" not in said


def test_it_does_not_start_without_being_told_who_may_ask(predictor: int, tmp_path: Path) -> None:
    process, _ = start(tmp_path, None, predictor, {})
    _, said = process.communicate(timeout=patience.SECONDS)
    assert process.returncode != 0
    assert "access.conf" in said


def addressed_by_name(dns: int, **changed: str) -> dict[str, str]:
    """The words with which the gateway asks a DNS server for its predictors."""
    return {UPSTREAM: UPSTREAM, RESOLVER: f"resolver 127.0.0.1:{dns}", **changed}


def error(answer: requests.Response) -> str:
    """What an answer says went wrong, in the form of the models' own."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    return str(answer.json()["error"])


def test_a_service_that_does_not_exist_is_told_as_such(predictor: int, dns: int) -> None:
    with running(predictor, changed=addressed_by_name(dns)) as (_, url, _):
        answer = requests.post(f"{url}/models/stars/predict", data="{}")
    assert answer.status_code == 404
    assert error(answer) == "there is no service stars in the namespace models"


def test_a_dns_that_does_not_answer_is_not_taken_for_a_missing_service(predictor: int, dns: int) -> None:
    quick = {"resolver_timeout 5s": "resolver_timeout 1s", '"~^ [0-4]': '"~^ [0]'}
    with running(predictor, changed=addressed_by_name(dns) | quick) as (_, url, _):
        answer = requests.post(f"{url}/models/silent/predict", data="{}")
    assert answer.status_code == 502
    assert error(answer) == "no pod of the service silent in the namespace models answers"


def test_a_service_without_a_pod_that_answers_is_told_as_such() -> None:
    with running(free_port()) as (_, url, _):  # nobody listens there
        answer = requests.post(f"{url}/models/stars/predict", data="{}")
    assert answer.status_code == 502
    assert error(answer) == "no pod of the service stars in the namespace models answers"


def test_a_pod_that_takes_too_long_is_told_as_such(predictor: int) -> None:
    with running(predictor, changed={"proxy_read_timeout 60s": "proxy_read_timeout 100ms"}) as (_, url, _):
        answer = requests.post(f"{url}/models/stars/never", data="{}")
    assert answer.status_code == 504
    assert error(answer) == "the service stars in the namespace models did not answer in time"


def test_what_a_model_says_of_an_error_passes_as_it_is(gateway: tuple[str, str]) -> None:
    for status in (400, 404, 405, 413, 500, 502, 503, 504):
        answer = requests.post(f"{gateway[1]}/models/stars/fails?{status}", headers={"Authorization": TOKEN})
        assert (answer.status_code, answer.text) == (status, "the model's own words")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_in_words(gateway: tuple[str, str], chunked: bool) -> None:
    size = 8 * 2**20 + 1
    with connect(gateway[1]) as client:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        head = f"POST /models/stars/predict HTTP/1.1\r\nHost: x\r\nAuthorization: {TOKEN}\r\n{length}\r\n\r\n"
        client.sendall(head.encode() + (b"%x\r\n " % size if chunked else b""))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        said = json.loads(answer.read())
    assert answer.status == 413
    assert said == {"error": "the body is larger than 8 MiB; send fewer texts at once"}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("TRACE /models/stars/predict HTTP/1.1", 405),
        ("no request at all", 400),
        ("GET /models/stars/predict HTTP/9.9", 505),
        ("POST /models/stars/predict HTTP/1.1\r\nTransfer-Encoding: other", 501),
        (f"GET /models/stars/{'a' * 9000} HTTP/1.1", 414),
        (f"GET /models/stars/predict HTTP/1.1\r\nX-Long: {'a' * 9000}", 431),
        ("GET /%2e%2e/%2e%2e/predict HTTP/1.1", 400),
        ("GET /said HTTP/1.1", 404),
    ],
)
def test_what_the_gateway_refuses_itself_is_said_as_the_models_say_it(
    gateway: tuple[str, str], head: str, status: int
) -> None:
    answered, body = raw(gateway[1], head)
    assert answered == status
    assert json.loads(body)["error"]
