"""The gateway, in a real nginx: who may ask, and whom the question reaches."""

from __future__ import annotations

import shutil
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

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
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


def start(folder: Path, access: str | None, predictor: int) -> tuple[subprocess.Popen[str], str]:
    """nginx with the gateway's configuration, but for addresses: every predictor is ours, its name in the path."""
    port = free_port()
    text = (MANIFESTS / "components" / "gateway" / "nginx.conf").read_text()
    for ours, here in {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "/tmp/": f"{folder}/",
        "/etc/miniml-access/": f"{folder}/",
        "resolver kube-dns.kube-system.svc.cluster.local": "resolver 127.0.0.1",
        "http://$service": f"http://127.0.0.1:{predictor}/$service",
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
    # Not pytest's own folder: nginx' workers are another user, who may not enter that.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        process, url = start(Path(folder), request.param, predictor)
        patience.wait_until(lambda: answers(url, process))
        yield request.param, url
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


def test_it_does_not_start_without_being_told_who_may_ask(predictor: int, tmp_path: Path) -> None:
    process, _ = start(tmp_path, None, predictor)
    _, said = process.communicate(timeout=patience.SECONDS)
    assert process.returncode != 0
    assert "access.conf" in said
