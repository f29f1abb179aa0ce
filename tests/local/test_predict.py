"""Asking a live service from the command line: a real predictor, and servers that are none."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from miniml.cli.predict import LocalService
from miniml.local.ask import ask, becomes_ready, serving_in_a_process
from tests.command import ROOT, pipeline
from tests.http_server import JsonHandler, LocalServer
from tests.ports import free_port


@pytest.fixture(scope="module")
def service(model_dir: Path) -> Iterator[str]:
    with serving_in_a_process(model_dir, "food") as url:
        yield url


@pytest.fixture
def stranger() -> Iterator[str]:
    """A server that answers everything with a page."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<h1>welcome</h1>")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_each_text_gets_its_label_and_probabilities(service: str) -> None:
    texts = ["great wonderful tasty loved perfect", "awful dirty cold rude hated"]
    ended = pipeline("predict", "--url", service, "--service-name=food", *texts)
    assert ended.status == 0, ended.err
    lines = ended.out.splitlines()
    assert [line.strip('"') for line in lines[::2]] == texts
    assert [line.split()[1] for line in lines[1::2]] == ["good", "bad"]
    assert all("bad 0." in line and "good 0." in line for line in lines[1::2])


def test_the_only_name_that_is_served_need_not_be_given(service: str) -> None:
    ended = pipeline("predict", "--url", service, "great wonderful tasty")
    assert ended.status == 0, ended.err
    assert "-> good" in ended.out


def test_what_serve_serves_here_is_found_for_as_long_as_it_lives(service: str, tmp_path: Path) -> None:
    LocalService(service, "food", os.getpid()).write(tmp_path)
    asked = ("predict", "--outputs", tmp_path, "great wonderful tasty")
    found = pipeline(*asked)
    assert found.status == 0, found.err
    assert found.out.splitlines()[0] == f"miniml: asking food at {service}"
    assert "-> good" in found.out
    gone = subprocess.Popen(["true"])
    gone.wait()
    LocalService(service, "food", gone.pid).write(tmp_path)
    lost = pipeline(*asked, KUBECONFIG=str(tmp_path / "none"))
    assert lost.status == 1
    assert "make serve" in lost.err
    assert "--url" in lost.err


@pytest.mark.parametrize("text", ["", "  \n"])
def test_no_text_is_no_question(text: str) -> None:
    ended = pipeline("predict", "--url", f"http://127.0.0.1:{free_port()}", text)
    assert ended.status == 1
    assert "TEXT=" in ended.err


def test_a_server_that_wants_a_token_gets_it_or_it_is_asked_for(model_dir: Path) -> None:
    secret = {"MINIML_TOKEN": "s" * 32}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(*next(iter(secret.items())))
        with serving_in_a_process(model_dir, "food") as url:
            environment.delenv("MINIML_TOKEN")
            refused = pipeline("predict", "--url", url, "--service-name=food", "great")
            assert "Set MINIML_TOKEN" in refused.err
            answered = pipeline("predict", "--url", url, "great wonderful tasty", **secret)
            assert "-> good" in answered.out, answered.err


def test_make_passes_the_text_on_as_it_is() -> None:
    text = 'not "great", --really; it\'s `fine`'
    done = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "predict",
            "-o",
            "setup",
            "BIN=.",
            "MINIML=printf %s\\\\n",
            f"TEXT={text}",
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == text, done.stderr


def test_no_proxy_is_asked_for_a_server_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Predictor(LocalServer):
        def handler(self) -> type[JsonHandler]:
            class Handler(JsonHandler):
                def answer(self, method: str) -> None:
                    self.read_body()
                    self.send_answer(200, {"predictions": [{"label": "good"}]})

            return Handler

    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with Predictor() as server:
        assert becomes_ready(server.url, "food", alive=iter([True, False]).__next__)
        answers = ask(lambda *_: nullcontext(server.url), Path(), "food", ["great"])
    assert answers == [{"text": "great", "label": "good"}]


def test_an_address_where_nobody_answers_is_told() -> None:
    ended = pipeline("predict", "--url", f"http://127.0.0.1:{free_port()}", "fine")
    assert ended.status == 1
    assert "nothing answers at http://127.0.0.1:" in ended.err


def test_a_name_that_is_not_served_is_told(service: str) -> None:
    ended = pipeline("predict", "--url", service, "--service-name=drinks", "fine")
    assert ended.status == 1
    assert "/v1/models/drinks:predict answers 404" in ended.err


def test_an_answer_that_is_no_prediction_is_told(stranger: str) -> None:
    ended = pipeline("predict", "--url", stranger, "fine")
    assert ended.status == 1
    assert "welcome" in ended.err
    assert "Traceback" not in ended.err


def test_an_address_without_its_scheme_is_told_before_anything_is_asked() -> None:
    ended = pipeline("predict", "--url", "localhost:8080", "great food")
    assert ended.status == 1
    assert 'error: --url is "localhost:8080", without http:// or https://.' in ended.err
    assert 'Write "http://localhost:8080".' in ended.err
