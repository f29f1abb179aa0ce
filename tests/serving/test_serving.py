"""The predictor, as its clients meet it over HTTP."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import logging
import shutil
import signal
import socket
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import psutil
import pytest
import requests
from fastapi.exceptions import RequestValidationError
from kserve import Model, ModelRepository

from miniml.model import manifest
from miniml.model.classifier import Classifier
from miniml.processor import usable_processors
from miniml.tasks import SingleLabelPrediction
from serving import errors
from serving.bodies import has_more_values
from serving.dataplane import StrictDataPlane
from serving.logs import EscapingFormatter
from tests import patience, tiny
from tests.command import ROOT
from tests.ports import free_port
from tests.predictor import (
    NAME,
    Server,
    error_of,
    held_until,
    infer_message,
    raw_tensor,
    refused_start,
    running,
    told_since_start,
)

TEXTS = ["the food was great and tasty", "rude staff", "a very dirty place, we hated it 7", ""]

# The predictor with a model that fails, once it serves, as torch does where a kernel is missing.
BROKEN = """
import sys
from serving.__main__ import main
from serving.inference import Inference

def fail(batch):
    raise NotImplementedError("a secret")

def start_and_break(inference, *arguments):
    choice = start(inference, *arguments)
    inference.classifier.run = fail
    return choice

start, Inference.start = Inference.start, start_and_break
sys.exit(main())
"""


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> list[SingleLabelPrediction]:
    return Classifier.load(tiny_model, SingleLabelPrediction).predict(TEXTS)


def assert_alike(answers: list[dict[str, Any]], expected: list[SingleLabelPrediction]) -> None:
    assert [answer["label"] for answer in answers] == [prediction.label for prediction in expected]
    for answer, prediction in zip(answers, expected, strict=True):
        assert list(answer) == ["label", "score", "probabilities"]
        assert answer["score"] == pytest.approx(prediction.score, abs=1e-4)
        assert answer["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-4)


def test_v1_answers_with_label_names_and_every_probability(
    server: Server, expected: list[SingleLabelPrediction]
) -> None:
    response = server.v1(TEXTS)
    assert response.status_code == 200
    assert list(response.json()) == ["predictions"]
    assert_alike(response.json()["predictions"], expected)


def test_v1_takes_objects_with_a_text_too(server: Server, expected: list[SingleLabelPrediction]) -> None:
    response = server.v1([{"text": TEXTS[0]}, TEXTS[1], {"text": TEXTS[2], "id": 3}, {"text": TEXTS[3]}])
    assert_alike(response.json()["predictions"], expected)


@pytest.mark.parametrize("shape", [[len(TEXTS)], [len(TEXTS), 1]])
def test_v2_answers_the_same_in_tensors(
    server: Server, expected: list[SingleLabelPrediction], shape: list[int]
) -> None:
    answer = server.v2(TEXTS, shape).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert {name: (output["datatype"], output["shape"]) for name, output in outputs.items()} == {
        "label": ("BYTES", [4]),
        "score": ("FP32", [4]),
        "probabilities": ("FP32", [4, 3]),
    }
    labels = json.loads(answer["parameters"]["labels"])
    rows = [outputs["probabilities"]["data"][at : at + 3] for at in range(0, 12, 3)]
    answers = [
        {"label": label, "score": score, "probabilities": dict(zip(labels, row, strict=True))}
        for label, score, row in zip(outputs["label"]["data"], outputs["score"]["data"], rows, strict=True)
    ]
    assert_alike(answers, expected)


def test_v2_gives_only_the_outputs_that_are_asked_for(server: Server) -> None:
    answer = server.v2(TEXTS, [4], outputs=[{"name": "score"}]).json()
    assert [output["name"] for output in answer["outputs"]] == ["score"]


def test_v2_takes_the_binary_form_of_kserves_own_client(
    server: Server, expected: list[SingleLabelPrediction]
) -> None:
    tensor = raw_tensor([text.encode() for text in TEXTS])
    parameters = {"binary_data_size": len(tensor)}
    head = {"inputs": [{"name": "text", "shape": [4], "datatype": "BYTES", "parameters": parameters}]}
    length = {"inference-header-content-length": str(len(json.dumps(head)))}
    url = f"{server.url}/v2/models/{NAME}/infer"
    response = requests.post(
        url, json.dumps(head).encode() + tensor, headers=length, timeout=patience.SECONDS
    )
    assert response.json()["outputs"][0]["data"] == [prediction.label for prediction in expected]

    short = requests.post(
        url, json.dumps(head).encode() + tensor[:-1], headers=length, timeout=patience.SECONDS
    )
    assert "not a binary V2 request" in error_of(short, 400)


def test_predict_answers_one_text_without_a_protocol(
    server: Server, expected: list[SingleLabelPrediction]
) -> None:
    assert_alike([server.post("/predict", {"text": text}).json() for text in TEXTS], expected)


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain", None],
)
def test_json_is_json_whatever_its_content_type_says(server: Server, content_type: str | None) -> None:
    bodies = {
        f"/v1/models/{NAME}:predict": {"instances": ["schön"]},
        f"/v2/models/{NAME}/infer": {
            "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["schön"]}]
        },
        "/predict": {"text": "schön"},
    }
    for path, body in bodies.items():
        data = json.dumps(body, ensure_ascii=False).encode()
        headers = {"content-type": content_type} if content_type else {}
        response = requests.post(server.url + path, data, headers=headers, timeout=patience.SECONDS)
        assert response.status_code == 200, (path, response.text)


@pytest.mark.parametrize("request_id", ["42", "", " ", "ein „Zitat“ \u0000", "7" * 500])
def test_v2_echoes_the_requests_id(server: Server, request_id: str) -> None:
    assert server.v2(["good"], [1], id=request_id).json()["id"] == request_id


@pytest.mark.parametrize("more", [{}, {"id": None}])
def test_v2_makes_an_id_up_where_the_request_has_none(server: Server, more: dict[str, None]) -> None:
    ids = {server.v2(["good"], [1], **more).json()["id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(isinstance(made_up, str) for made_up in ids)


def test_metadata_tells_the_real_inputs_and_outputs(server: Server) -> None:
    metadata = server.get(f"/v2/models/{NAME}").json()
    assert metadata["name"] == NAME
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert metadata["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "score", "datatype": "FP32", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "'instances' is missing in the body"),
        ({"inputs": ["a"]}, "'instances' is missing in the body"),
        ({"instances": "a text"}, "instances is a string, not a list"),
        ({"instances": []}, "instances is empty"),
        ({"instances": ["a", 3]}, "instances[1] is a number (int). Send a string."),
        ({"instances": [None]}, "instances[0] is null. Send a string."),
        ({"instances": [True]}, "instances[0] is a boolean. Send a string."),
        ({"instances": [{"txt": "a"}]}, "instances[0] has no 'text'."),
        ({"instances": [{"text": ["a"]}]}, "instances[0].text is a list. Send a string."),
        (["a"], "the body is a list, not an object"),
        ({"instances": ["\ud800"]}, "no low surrogate"),
    ],
)
def test_v1_says_what_is_wrong_with_a_body(server: Server, body: Any, message: str) -> None:
    error = error_of(server.post(f"/v1/models/{NAME}:predict", body), 400)
    assert message in error
    if "instances" in message:
        assert "Send " in error


@pytest.mark.parametrize(
    ("data", "shape", "more", "message"),
    [
        (["a", "b"], [3], {}, "inputs[0] has a shape that its data does not fill"),
        (["a"], [10**30], {}, "inputs[0] has a shape that its data does not fill"),
        (["a", "b"], [-1], {}, "inputs[0] has a shape other than [n] or [n, 1]"),
        (["a", "b"], [1, 2], {}, "inputs[0] has a shape other than [n] or [n, 1]"),
        ([], [0], {}, "inputs[0] has a shape other than [n] or [n, 1]"),
        ([["a", "b"], "c"], [2], {}, "inputs[0].data[0] is a list. Send a string."),
        (["a", 2.5], [2], {}, "inputs[0].data[1] is a number (float). Send a string."),
        (["\ud800"], [1], {}, "not valid UTF-8"),
        (
            ["a"],
            [1],
            {"parameters": {"a secret": []}},
            "parameters holds a list. Send strings, numbers and booleans.",
        ),
        (["a"], [1], {"id": 42}, "id is a number (int). Send a string."),
        (["a"], [1], {"id": "\ud800"}, "id is not valid UTF-8"),
        (
            ["a"],
            [1],
            {"outputs": [{"name": "logits"}]},
            "outputs[0] does not exist. Ask for label, score, probabilities.",
        ),
        (["a"], [1], {"inputs": []}, "the request has 0 inputs"),
        (["a"], [1], {"inputs": [{"name": "x"}]}, "inputs[0] has no 'datatype', or one that is no string."),
        (
            ["a"],
            [1],
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]},
            "inputs[0] has a datatype other than BYTES. Send one BYTES tensor of texts",
        ),
    ],
)
def test_v2_says_what_is_wrong_with_a_request(
    server: Server, data: list[Any], shape: list[int], more: dict[str, Any], message: str
) -> None:
    assert message in error_of(server.v2(data, shape, **more), 400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"text": 5}', "text: Input should be a valid string"),
        (b"{}", "text: Field required"),
        (b"[]", "the body: "),
        (b"", "the body: Field required"),
        (b'{"text": "a"', "the body is not JSON"),
        (b'{"text": "\xff"}', "the body is no JSON in UTF-8"),
        (b'{"text": "\\ud800"}', "not valid UTF-8"),
    ],
)
def test_predict_says_what_is_wrong_with_a_body(server: Server, body: bytes, message: str) -> None:
    assert message in error_of(requests.post(f"{server.url}/predict", body, timeout=patience.SECONDS), 400)


def test_what_is_not_there_is_said_to_be_missing(server: Server) -> None:
    for answer in (
        server.post("/v1/models/nobody:predict", {"instances": ["a"]}),
        server.get("/v2/models/nobody/ready"),
        server.get("/v2/models/nobody"),
    ):
        assert error_of(answer, 404) == "no model has that name. GET /v1/models lists those that there are."
    nowhere = error_of(server.get("/now%1b%5b2Jhere?a=b"), 404)
    assert nowhere == "there is no such path. GET /openapi.json lists those that there are."
    wrong = server.get("/predict")
    assert "the header Allow lists them" in error_of(wrong, 405)
    assert wrong.headers["allow"] == "POST"


def test_a_slash_too_many_leads_nowhere(server: Server) -> None:
    for path in ("/docs/", "/predict/", "/page", f"/v1/models/{NAME}/"):
        answer = requests.get(
            server.url + path,
            headers={"Host": "evil.example"},
            allow_redirects=False,
            timeout=patience.SECONDS,
        )
        assert answer.status_code == 404
        assert "evil" not in f"{answer.headers}{answer.text}"


def test_head_is_get_without_its_body_and_options_tells_the_methods(server: Server) -> None:
    for path in ("/", "/v1/models", "/v2/health/live", f"/v2/models/{NAME}", "/metrics", "/openapi.json"):
        asked = requests.head(server.url + path, timeout=patience.SECONDS)
        assert (asked.status_code, asked.content) == (200, b"")
        assert int(asked.headers["content-length"]) > 0
    assert requests.head(f"{server.url}/nowhere", timeout=patience.SECONDS).status_code == 404
    for path, methods in (
        ("/predict", "POST, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        (f"/v2/models/{NAME}/infer", "POST, OPTIONS"),
        ("/page/page.js", "GET, HEAD, OPTIONS"),
    ):
        response = requests.options(server.url + path, timeout=patience.SECONDS)
        assert (response.status_code, response.headers["allow"]) == (204, methods)
    assert requests.options(f"{server.url}/nowhere", timeout=patience.SECONDS).status_code == 404


# gzip writes the time into its head; a test's name, of which this is a part, may not change with it.
gzipped = functools.partial(gzip.compress, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzipped),
        ("GZIP", gzipped),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body, wbits=-15)),
        ("identity", bytes),
        ("", lambda body: b"\xef\xbb\xbf" + body),
        ("gzip", lambda body: gzipped(b"\xef\xbb\xbf" + body)),
        ("", lambda body: body.decode().encode("utf-16")),
    ],
)
def test_a_body_may_be_compressed_and_begin_with_a_mark(
    server: Server, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["schön"]}
    for path, body in {
        f"/v1/models/{NAME}:predict": {"instances": ["schön"]},
        f"/v2/models/{NAME}/infer": {"inputs": [tensor]},
        "/predict": {"text": "schön"},
    }.items():
        packed = pack(json.dumps(body, ensure_ascii=False).encode())
        headers = {"content-encoding": encoding} if encoding else {}
        answer = requests.post(server.url + path, packed, headers=headers, timeout=patience.SECONDS)
        assert answer.status_code == 200, (path, answer.text)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "message"),
    [
        ("gzip", b'{"text": "a"}', 400, "not compressed as its Content-Encoding says"),
        ("gzip", gzipped(b'{"text": "a"}')[:-1], 400, "Send one whole stream of gzip"),
        ("gzip", gzipped(b'{"text": ') * 2, 400, "Send one whole stream of gzip"),
        ("deflate", b"", 400, "Send one whole stream of deflate"),
        ("br", b"", 415, "Send it as it is, or with gzip or deflate"),
        (
            "gzip, gzip",
            gzipped(gzipped(b'{"text": "a"}')),
            415,
            "Content-Encoding is not read here",
        ),
        ("gzip", gzipped(b" " * 2**24), 413, "compressed or not"),
        ("deflate", zlib.compress(b" " * 2**24, wbits=-15), 413, "compressed or not"),
        ("", b"\xef\xbb\xbf" + b"\xff", 400, "not JSON in UTF-8"),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_told_why(
    server: Server, encoding: str, body: bytes, status: int, message: str
) -> None:
    headers = {"content-encoding": encoding} if encoding else {}
    answer = requests.post(f"{server.url}/predict", body, headers=headers, timeout=patience.SECONDS)
    assert message in error_of(answer, status)


MANY = 2**19
TENSOR = '{"name": "a", "shape": [1], "datatype": "BYTES", "data": ["a"]}'


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/v2/models/{NAME}/infer", '{"inputs": [' + "{}," * MANY + "{}]}"),
        (f"/v2/models/{NAME}/infer", f'{{"inputs": [{TENSOR}], "outputs": [' + "1," * MANY + "1]}"),
        (f"/v2/models/{NAME}/infer", '{"inputs": [{"shape": [' + '"",' * MANY + "1]}]}"),
        (f"/v2/models/{NAME}/infer", '{"inputs": [], "parameters": {' + '"":[],' * MANY + '"":1}}'),
        (f"/v1/models/{NAME}:predict", '{"instances": [' + '"",' * MANY + '""]}'),
        (f"/v1/models/{NAME}:predict", "[" * MANY),
        ("/predict", '{"text": [' + r'"\"[,",' * MANY + '""]}'),
        ("/explain", '{"a": ' * MANY),
    ],
)
def test_a_million_values_are_refused_before_any_is_looked_at(server: Server, path: str, body: str) -> None:
    answer = requests.post(server.url + path, body, timeout=patience.SECONDS)
    error = error_of(answer, 400)
    assert error.startswith("the body holds more than 17000 values in lists and objects")
    assert len(error) < 300


def test_texts_may_hold_as_many_brackets_commas_and_quotation_marks_as_they_like(server: Server) -> None:
    assert server.v1(['[{",\\' * 10_000] * 3).status_code == 200
    assert not has_more_values(json.dumps({"a": ['\\"[[,,', "\\\\", "{{"]}).encode(), 4)
    assert has_more_values(b'{"a": [1, 2, 3]}', 3)


def test_of_many_mistakes_ten_are_told(server: Server) -> None:
    mistakes = [{"type": "missing", "loc": ("body", "text", place), "msg": "m"} for place in range(10**5)]
    answer = asyncio.run(errors._refuse_body(None, RequestValidationError(mistakes)))  # type: ignore[arg-type]
    assert len(json.loads(bytes(answer.body))["error"].split("; ")) == 10


def test_what_kserve_has_and_we_have_not_is_no_fault_of_the_server(server: Server) -> None:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    versioned = server.post(f"/v2/models/{NAME}/versions/1/infer", {"inputs": [tensor]})
    assert error_of(versioned, 404) == "this server has no versions of a model."
    explained = server.post(f"/v1/models/{NAME}:explain", {"instances": ["a"]})
    assert error_of(explained, 404) == "this server has no explainer."
    assert server.get("/v2").json()["extensions"] == ["binary_tensor_data"]


def test_a_cloud_event_is_answered_and_a_broken_one_is_not_repeated(server: Server) -> None:
    url = f"{server.url}/v1/models/{NAME}:predict"
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "a client", "ce-type": "a question"}
    headers = {**event, "content-type": "application/json"}
    answer = requests.post(
        url, json.dumps({"instances": ["good"]}), headers=headers, timeout=patience.SECONDS
    )
    assert len(answer.json()["predictions"]) == 1
    broken = requests.post(url, b'{"instances": ["a secret', headers=headers, timeout=patience.SECONDS)
    assert "secret" not in error_of(broken, 400)
    unknown = {**headers, "ce-specversion": "a secret"}
    refused = requests.post(
        url, json.dumps({"instances": ["good"]}), headers=unknown, timeout=patience.SECONDS
    )
    assert "secret" not in error_of(refused, 400)


def test_the_server_is_ready_only_while_its_model_is() -> None:
    models = ModelRepository()
    model = Model(NAME)
    models.update(model)
    assert not asyncio.run(StrictDataPlane(models).ready())
    model.ready = True
    assert asyncio.run(StrictDataPlane(models).ready())


def test_a_label_moves_no_cursor(tmp_path: Path) -> None:
    labels = ("bad\x1b[2J", "go\nod", "\x9b31m")
    with running(tiny.write_classifier(tmp_path / "model", labels=labels), tmp_path / "log") as server:
        assert r"(labels: bad\x1b[2J, go\x0aod, \x9b31m)" in server.log.read_text()


def test_a_log_line_moves_no_cursor() -> None:
    record = logging.LogRecord("a", logging.ERROR, "", 1, "%s", ("\x1b[2J\r\x07 schön\nnext",), None)
    assert EscapingFormatter("%(message)s").format(record) == "\\x1b[2J\\x0d\\x07 schön\nnext"


def test_nobody_can_unload_the_model(server: Server) -> None:
    for action in ("unload", "load"):
        assert action in error_of(server.post(f"/v2/repository/models/{NAME}/{action}", {}), 403)
    assert server.v1(["still there"]).status_code == 200


def test_readiness_is_told_by_model(server: Server) -> None:
    assert server.get(f"/v2/models/{NAME}/ready").json() == {"name": NAME, "ready": True}


def test_liveness_answers_while_a_big_request_is_predicted(tiny_model: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with (
        running(tiny_model, tmp_path / "log", program=held_until(go)) as server,
        ThreadPoolExecutor() as pool,
    ):
        big = pool.submit(server.v1, [f"{' '.join(TEXTS)} {number}" for number in range(1_000)])
        patience.wait_until(lambda: "miniml_queue_texts 1000.0" in server.get("/metrics").text)
        for _ in range(10):
            assert server.get("/v2/health/live").json() == {"live": True}
        assert not big.done()
        go.touch()
        while not big.done():
            assert server.get("/v2/health/live").json() == {"live": True}
        assert len(big.result().json()["predictions"]) == 1_000


def test_a_request_that_asks_the_model_leaves_one_line_of_json_without_its_text(server: Server) -> None:
    addresses = f"{server.url} and gRPC at {server.grpc_address}"
    assert f"serving {NAME!r} at {addresses} (labels: bad, so so, gut & schön)\n" in server.log.read_text()
    url = f"{server.url}/v1/models/{NAME}:predict"

    def ask(text: str, name: str) -> requests.Response:
        body = {"instances": [text, text]}
        return requests.post(url, json=body, headers={"X-Request-Id": name}, timeout=patience.SECONDS)

    ask("whatever", "0-a")
    patience.wait_until(lambda: "0-a" in told_since_start(server), server.log.read_text)
    before = told_since_start(server)  # with the lines of all other tests, which come in the requests' order
    text = "a text that nobody sent before"
    answer = ask(text, "7-a")
    assert answer.headers["x-request-id"] == "7-a"
    server.v1([3])
    server.get(f"/v2/models/{NAME}/ready")
    server.get("/v2/models/nobody/ready")
    server.get("/metrics")
    server.grpc.ModelInfer(
        infer_message([text]), metadata=(("x-request-id", "8-b"),), timeout=patience.SECONDS
    )
    lines = [json.loads(line) for line in lines_after(server, before, count=3)]
    assert [(line["protocol"], line["outcome"], line["texts"], line["cached"]) for line in lines] == [
        ("v1", "ok", 2, 0),
        ("v1", "invalid", 0, 0),
        ("grpc", "ok", 1, 0),  # though it is the same text: no answer is kept
    ]
    assert [line["request_id"] for line in lines][::2] == ["7-a", "8-b"]
    assert text not in server.log.read_text()


def lines_after(server: Server, before: str, count: int) -> list[str]:
    """What the server has printed since; it prints from a thread of its own, after it has answered."""

    def lines() -> list[str]:
        return told_since_start(server).removeprefix(before).splitlines()

    patience.wait_until(lambda: len(lines()) >= count, server.log.read_text)
    return lines()


def test_an_unexpected_error_is_logged_tells_the_client_nothing_and_leaves_ctrl_c_clean(
    tiny_model: Path, tmp_path: Path
) -> None:
    with running(tiny_model, tmp_path / "log", program=("-c", BROKEN)) as broken:
        for response in (broken.v1(["a"]), broken.v2(["a"], [1]), broken.post("/predict", {"text": "a"})):
            assert error_of(response, 500) == "internal error"
        with pytest.raises(grpc.RpcError) as failed:
            broken.grpc.ModelInfer(infer_message(["a"]))
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")
        assert broken.get("/").ok
        log = broken.log.read_text()
        assert log.count("caused by NotImplementedError") == 4
        assert "a secret" not in log
        broken.process.send_signal(signal.SIGINT)
        assert broken.process.wait(timeout=patience.SECONDS) == 0
        assert broken.log.read_text().startswith(log)
        assert "Traceback" not in broken.log.read_text()


def test_a_tampered_model_folder_is_not_served(tmp_path: Path) -> None:
    folder = tiny.write_classifier(tmp_path / "model")
    (folder / "config.json").write_text("{}")
    message = refused_start("--model-dir", str(folder))
    assert message.startswith("error: ")
    assert "config.json has SHA-256" in message
    assert len(message.splitlines()) == 1


def test_a_signed_folder_of_another_digest_than_the_expected_one_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    expected = f"--expected-digest={manifest.read(tiny_model).digest}"
    other = tiny.write_classifier(tmp_path / "other")
    message = refused_start(f"--model-dir={other}", expected)
    assert f"its digest is {manifest.read(other).digest[:12]}…, signed off was" in message
    assert len(message.splitlines()) == 1
    flipped = tmp_path / "flipped"
    shutil.copytree(tiny_model, flipped)
    weights = bytearray((flipped / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (flipped / "model.safetensors").write_bytes(weights)
    assert "model.safetensors has SHA-256" in refused_start(f"--model-dir={flipped}", expected)


def test_the_expected_folder_is_served(tiny_model: Path, tmp_path: Path) -> None:
    expected = f"--expected-digest={manifest.read(tiny_model).digest}"
    with running(tiny_model, tmp_path / "log", expected) as server:
        assert server.v1(["a text"]).ok


@pytest.mark.parametrize(
    ("option", "more"), [("http_port", []), ("grpc_port", [f"--http-port={free_port()}"])]
)
def test_a_port_that_is_taken_is_named(tiny_model: Path, option: str, more: list[str]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = refused_start(f"--model-dir={tiny_model}", f"--{option}={port}", *more)
    assert message == (
        f"error: {option} {port} cannot be used (Address already in use). Choose another with --{option}.\n"
    )


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("6400000 100000", 8),
    ],
)
def test_inference_uses_no_more_threads_than_the_container_pays_for(
    tmp_path: Path, quota: str, threads: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert usable_processors(8, tmp_path / "cpu.max") == threads


def test_without_a_quota_inference_uses_every_processor(tmp_path: Path) -> None:
    assert usable_processors(8, tmp_path / "absent") == 8


def test_it_listens_on_this_machine_alone_unless_it_is_told_otherwise(server: Server) -> None:
    listening = [each for each in psutil.Process(server.process.pid).connections() if each.status == "LISTEN"]
    assert len(listening) == 2
    assert {each.laddr.ip.removeprefix("::ffff:") for each in listening} == {"127.0.0.1"}
    assert "ENV MINIML_HOST=0.0.0.0" in (ROOT / "serving" / "Dockerfile").read_text()


def test_it_serves_and_logs_as_a_part_of_any_package(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "serving", tmp_path / "theirs" / "predictor")
    program = (
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "sys.modules['serving'] = None; runpy.run_module('theirs.predictor', run_name='__main__')"
    )
    with running(tiny_model, tmp_path / "log", program=("-c", program)) as server:
        assert server.v1(["great"]).ok
        patience.wait_until(lambda: '"outcome": "ok"' in server.log.read_text())
        assert "measured at load" in server.log.read_text()


def test_who_offers_another_protocol_is_answered_in_the_one_that_is_spoken(server: Server) -> None:
    # As curl --http2 and Java's client begin.
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    with requests.Session() as session:
        for text in ("great", "awful"):
            answer = session.post(
                f"{server.url}/predict", json={"text": text}, headers=offer, timeout=patience.SECONDS
            )
            assert (answer.status_code, "label" in answer.json()) == (200, True)


@pytest.mark.parametrize("shape", [[True], [True, 1]])
def test_a_truth_value_is_no_number_of_texts(server: Server, shape: list[Any]) -> None:
    assert "shape" in error_of(server.v2(["great"], shape), 400)


@pytest.mark.parametrize("name", ["Inference-Header-Content-Length", "Content-Length"])
def test_a_length_of_thousands_of_digits_is_a_mistake_of_the_client(server: Server, name: str) -> None:
    answer = raw_answer(server, f"{name}: {'0' * 5_000}16")
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413")), answer[:100]


def raw_answer(server: Server, header: str) -> bytes:
    """What a request of the V2 route with one header more is answered, sent as bytes that no client would send."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    length = "" if header.startswith("Content-Length") else "Content-Length: 2\r\n"
    with socket.create_connection((host, int(port)), timeout=patience.SECONDS) as connection:
        path = f"/v2/models/{NAME}/infer"
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{length}{header}\r\n\r\n{{}}".encode())
        return connection.recv(65536)
