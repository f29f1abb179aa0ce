"""Whatever is sent, the answer is an answer or one sentence on what is wrong with the request, and never repeats it."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from serving.dataplane import BINARY_HEADER
from tests import patience
from tests.predictor import NAME, Server, infer_message, raw_tensor, told_since_start

EXAMPLES = 150
LONG = 12
"""Characters from which on a piece of a request that is found in a reply was copied there."""
OURS = {"binary_data_size", "binary_data_output", "probabilities"}
"""Words of the protocol, which a message may name."""

# JSON can spell half a surrogate pair, so it is sent too.
TEXT = st.text(st.characters(exclude_categories=()), max_size=40) | st.text(min_size=LONG, max_size=40)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def mostly(right: st.SearchStrategy[Any], wrong: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[Any]:
    """What gets a request past the first checks, so that those behind them are tried as well."""
    return right | right | right | wrong


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have or lack each of `fields`, and may have others."""
    return st.builds(
        lambda known, other: {**other, **known},
        st.fixed_dictionaries({}, optional=fields),
        st.just({}) | st.dictionaries(TEXT, JSON, max_size=2),
    )


PARAMETERS = st.dictionaries(TEXT | st.just("binary_data") | st.just("binary_data_output"), JSON, max_size=2)
V1 = mostly(objects(instances=mostly(st.lists(mostly(TEXT | objects(text=mostly(TEXT))), max_size=4))))
SHAPE = mostly(st.lists(st.integers(0, 3) | st.integers(), min_size=1, max_size=2))
OUTPUT = objects(
    name=mostly(st.sampled_from(["label", "score", "probabilities"])), parameters=mostly(PARAMETERS)
)
TENSOR = st.fixed_dictionaries(
    {
        "name": mostly(TEXT),
        "shape": SHAPE,
        "datatype": mostly(st.just("BYTES"), st.sampled_from(["FP16", "FP32", "INT64", "BOOL"]) | TEXT),
        "data": mostly(st.lists(mostly(TEXT), max_size=3)),
    },
    optional={"parameters": mostly(PARAMETERS)},
)
V2 = mostly(
    objects(
        id=mostly(TEXT),
        inputs=mostly(st.lists(mostly(TENSOR), min_size=1, max_size=2)),
        outputs=mostly(st.lists(mostly(OUTPUT), max_size=3)),
        parameters=mostly(PARAMETERS),
    )
)
RAW = st.lists(st.binary(max_size=20), max_size=3).map(raw_tensor) | st.binary(max_size=40)

PATHS = [f"v1/models/{NAME}:predict", f"v2/models/{NAME}/infer", "predict"]

unhurried = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def strings(value: Any) -> Iterator[str]:
    """All that a client wrote in `value`, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def repeats(reply: str, sent: Any) -> bool:
    return any(text in reply for text in strings(sent) if len(text) >= LONG and text not in OURS)


def check(response: requests.Response, sent: Any) -> None:
    if response.ok:
        assert response.status_code == 200
        return
    assert response.status_code == 503 or 400 <= response.status_code < 500, response.text
    answer = response.json()
    assert list(answer) == ["error"]
    assert isinstance(answer["error"], str)
    assert not repeats(answer["error"], sent)


@given(body=V1)
@unhurried
def test_any_json_over_v1(server: Server, session: requests.Session, body: Any) -> None:
    check(
        session.post(f"{server.url}/v1/models/{NAME}:predict", json.dumps(body), timeout=patience.SECONDS),
        body,
    )


@given(body=V2)
@example({"inputs": [{"name": "x", "shape": [10**30], "datatype": "BYTES", "data": ["a"]}]})
@example({"inputs": [{"name": "secret tensor", "shape": [1], "datatype": "FP16", "data": [1.0]}]})
@unhurried
def test_any_json_over_v2(server: Server, session: requests.Session, body: Any) -> None:
    check(
        session.post(f"{server.url}/v2/models/{NAME}/infer", json.dumps(body), timeout=patience.SECONDS), body
    )


@given(body=mostly(objects(text=mostly(TEXT))))
@unhurried
def test_any_json_over_predict(server: Server, session: requests.Session, body: Any) -> None:
    check(session.post(f"{server.url}/predict", json.dumps(body), timeout=patience.SECONDS), body)


@given(
    body=st.binary(max_size=60),
    path=st.sampled_from(PATHS),
)
@unhurried
def test_any_bytes(server: Server, session: requests.Session, body: bytes, path: str) -> None:
    check(session.post(f"{server.url}/{path}", body, timeout=patience.SECONDS), body.decode(errors="replace"))


# How long the JSON is said to be: right, another number, or no number at all.
LENGTH = mostly(st.none(), st.integers().map(str) | st.text(string.ascii_letters + " ,;=", max_size=20))


@given(head=V2, raw=RAW, size=mostly(st.none()), length=LENGTH)
@unhurried
def test_any_tensor_over_v2_binary(
    server: Server, session: requests.Session, head: Any, raw: bytes, size: Any, length: str | None
) -> None:
    if isinstance(head, dict) and isinstance(head.get("inputs"), list):
        for tensor in head["inputs"]:
            if isinstance(tensor, dict):
                tensor.pop("data", None)
                tensor["parameters"] = {"binary_data_size": len(raw) if size is None else size}
    words = json.dumps(head).encode()
    headers = {BINARY_HEADER: (str(len(words)) if length is None else length).strip()}
    url = f"{server.url}/v2/models/{NAME}/infer"
    response = session.post(url, words + raw, headers=headers, timeout=patience.SECONDS)
    check(response, [head, length, raw.decode(errors="replace")])


NAMES = st.text(max_size=20)  # gRPC's strings are UTF-8
CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        "bytes_contents": st.lists(NAMES.map(str.encode) | st.binary(max_size=20), max_size=3),
        "fp32_contents": st.lists(st.floats(width=32), max_size=2),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
    },
)
GRPC_PARAMETERS = st.dictionaries(
    NAMES,
    st.builds(messages.InferParameter, string_param=NAMES) | st.builds(messages.InferParameter),
    max_size=2,
)
GRPC_TENSOR = st.fixed_dictionaries(
    {
        "name": NAMES,
        "shape": st.lists(st.integers(0, 3), max_size=2)
        | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "datatype": mostly(st.just("BYTES"), NAMES),
    },
    optional={"contents": CONTENTS, "parameters": GRPC_PARAMETERS},
)


@given(
    inputs=mostly(st.lists(GRPC_TENSOR, min_size=1, max_size=1), st.lists(GRPC_TENSOR, max_size=3)),
    raw=st.just([]) | st.lists(RAW, max_size=2),
    outputs=st.lists(mostly(st.sampled_from(["label", "score", "probabilities"]), NAMES), max_size=3),
    model=mostly(st.just(NAME), NAMES),
    request_id=NAMES,
    parameters=GRPC_PARAMETERS,
)
@unhurried
def test_any_tensor_over_grpc(
    server: Server,
    inputs: list[dict[str, Any]],
    raw: list[bytes],
    outputs: list[str],
    model: str,
    request_id: str,
    parameters: dict[str, Any],
) -> None:
    request = messages.ModelInferRequest(
        model_name=model,
        id=request_id,
        inputs=inputs,
        raw_input_contents=raw,
        outputs=[{"name": name} for name in outputs],
        parameters=parameters,
    )
    check_grpc(server.grpc.ModelInfer, request, [str(inputs), *outputs, model, request_id, *map(str, raw)])


@given(message=st.binary(max_size=60))
@example(infer_message(["a"]).SerializeToString()[:-1])
@unhurried
def test_any_bytes_over_grpc(server: Server, message: bytes) -> None:
    assert server.channel
    call = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    check_grpc(call, message, [])


def check_grpc(call: Any, request: Any, sent: list[str]) -> None:
    try:
        call(request, timeout=patience.SECONDS)
    except grpc.RpcError as error:
        assert error.code() in {
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.UNAVAILABLE,
        }, error.details()
        assert not repeats(error.details(), sent)


def test_none_of_it_left_a_line_in_the_log(server: Server) -> None:
    """Runs behind the others: what they sent is nobody's fault but the client's."""
    assert all(line.startswith("{") for line in told_since_start(server).splitlines())
