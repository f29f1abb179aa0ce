"""The gateway, in a real nginx: who may ask, and whom the question reaches."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
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
    """Answers with what it was asked."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = f"{self.path} {self.headers.get('authorization')} {body.decode()}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

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


def start(
    folder: Path, access: str | None, predictor: int, header_s: float = patience.SECONDS
) -> tuple[subprocess.Popen[str], str]:
    """nginx with the gateway's configuration, but for addresses: every predictor is ours, its name in the path."""
    port = free_port()
    text = (MANIFESTS / "components" / "gateway" / "nginx.conf").read_text()
    for ours, here in {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "client_header_timeout 10s;": f"client_header_timeout {header_s:.0f}s;",
        "/tmp/": f"{folder}/",
        "/etc/miniml-access/": f"{folder}/",
        "/dev/stdout": f"{folder}/log",
        "resolver kube-dns.kube-system.svc.cluster.local": "resolver 127.0.0.1",
        "http://$service-predictor.$namespace.svc.cluster.local": f"http://127.0.0.1:{predictor}"
        "/$service-predictor.$namespace.svc.cluster.local",
    }.items():
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
    predictor: int, access: str = OPEN, header_s: float = patience.SECONDS
) -> Iterator[tuple[Path, str, subprocess.Popen[str]]]:
    """A gateway before `predictor`: its folder, its address, and its process."""
    # Not pytest's own folder: nginx' workers are another user, who may not enter that.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        process, url = start(Path(folder), access, predictor, header_s)
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
    path = "/kubeflow/stars/v1/models/stars:predict?a=b%20c"
    answer = requests.post(url + path, data='{"instances": []}', headers={"Authorization": TOKEN})
    upstream = "/stars-predictor.kubeflow.svc.cluster.local/v1/models/stars:predict?a=b%20c"
    # The token is the gateway's business, not the model's.
    assert answer.text == f'{upstream} None {{"instances": []}}'


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer 1"}, {"Authorization": "Bearer " + "0b" * 32}]
)
def test_where_there_are_tokens_nobody_asks_without_one(
    gateway: tuple[str, str], headers: dict[str, str]
) -> None:
    access, url = gateway
    answer = requests.post(f"{url}/kubeflow/stars/predict", data="{}", headers=headers)
    assert answer.status_code == (200 if access == OPEN else 401)
    if access != OPEN:
        assert "Authorization: Bearer <token>" in answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["/", "/kubeflow", "/kubeflow/stars", "/a.b/stars/predict", "/a/b.c/predict"]
)
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
    status, body = raw(gateway[1], f"GET /kubeflow/stars{path} HTTP/1.1\r\nAuthorization: {TOKEN}")
    if status != 400:  # nginx itself refuses a NUL, and a path that leaves its root
        assert body.startswith(f"/stars-predictor.kubeflow.svc.cluster.local{path} ")


def test_what_the_client_calls_the_host_is_not_passed_on(gateway: tuple[str, str]) -> None:
    status, body = raw(
        gateway[1], f"GET /kubeflow/stars/host HTTP/1.1\r\nAuthorization: {TOKEN}", host="evil.example"
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


HALF = b"POST /kubeflow/stars/predict HTTP/1.1\r\nHost: x\r\n"


def test_heads_that_are_half_sent_keep_nobody_out(gateway: tuple[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(connect(gateway[1])).sendall(HALF)
        assert requests.get(f"{gateway[1]}/healthz", timeout=patience.SECONDS).text == "ok\n"


def test_a_head_that_does_not_come_to_its_end_is_given_up(predictor: int) -> None:
    with running(predictor, header_s=1) as (_, url, _), connect(url) as client:
        client.sendall(HALF)
        with contextlib.suppress(ConnectionResetError):
            assert not client.recv(1)


def test_a_question_that_no_predictor_answers_is_logged_without_a_word_of_the_clients() -> None:
    escape = "\x1b]0;gone\x07"
    with running(free_port()) as (folder, url, process):  # nobody listens there
        head = f"GET /kubeflow/stars/\x9b2J HTTP/1.1\r\nReferer: {escape}\r\nUser-Agent: {escape}"
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
    process, _ = start(tmp_path, None, predictor)
    _, said = process.communicate(timeout=patience.SECONDS)
    assert process.returncode != 0
    assert "access.conf" in said
