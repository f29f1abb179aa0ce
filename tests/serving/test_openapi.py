"""The OpenAPI document is true: what it lets a client send is answered as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests import patience
from tests.predictor import NAME, Server, running, told_since_start

EXAMPLES = 15  # of each operation

bounded = settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
)


@schemathesis.check
def answers(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Nothing is the server's fault but that it is busy, and what it refuses has the one form."""
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400:
        assert list(response.json()) == ["error"]


@pytest.fixture(scope="module")
def api(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_operation_answers_as_the_document_says(server: Server, api: Any) -> None:
    tried = 0
    for operation in (result.ok() for result in api.get_all_operations()):

        @given(case=operation.as_strategy())
        @bounded
        def keeps_its_word(case: schemathesis.Case[Any]) -> None:
            checks = [
                answers,
                status_code_conformance,
                response_schema_conformance,
                content_type_conformance,
            ]
            case.call_and_validate(checks=checks)

        keeps_its_word()
        tried += 1
    assert tried > 10
    assert all(line.startswith("{") for line in told_since_start(server).splitlines())


def test_every_example_works_as_it_stands_and_is_answered_as_shown(server: Server) -> None:
    paths = document(server)["paths"]
    tried = 0
    for path, operations in paths.items():
        for method, operation in operations.items():
            url = server.url + path.replace("{model_name}", NAME)
            (shown,) = operation["responses"]["200"]["content"].values()
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in content.get("examples", {"none": {"value": None}}).values():
                response = requests.request(method, url, json=example["value"], timeout=patience.SECONDS)
                assert response.status_code == 200, response.text
                if "example" in shown and "outputs" not in (example["value"] or {}):
                    assert_holds(response.json(), shown["example"])
                tried += 1
    assert tried == 15


def assert_holds(answer: Any, shown: Any) -> None:
    """`shown` is in `answer`, but for KServe's fields that are null and for rounding."""
    match shown:
        case dict():
            for key, value in shown.items():
                assert_holds(answer[key], value)
        case list():
            assert len(answer) == len(shown)
            for one, other in zip(answer, shown, strict=True):
                assert_holds(one, other)
        case float():
            assert answer == pytest.approx(shown, abs=1e-4)
        case _:
            assert answer == shown


def test_the_document_names_every_error_of_a_route(server: Server) -> None:
    paths = document(server)["paths"]
    statuses = {path: set(next(iter(item.values()))["responses"]) for path, item in paths.items()}
    assert statuses["/predict"] == {"200", "400", "413", "415", "503"}
    assert statuses["/explain"] == {"200", "400", "413", "415", "503"}
    assert statuses["/v2/models/{model_name}/infer"] == {"200", "400", "404", "413", "415", "503"}
    assert statuses["/v1/models/{model_name}"] == {"200", "404"}
    assert not any("repository" in path for path in paths)


def test_where_a_token_is_needed_the_document_says_so(tiny_model: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with running(tiny_model, tmp_path / "log", f"--token_file={token}") as guarded:
        headers = {"authorization": "Bearer secret"}
        document = requests.get(
            f"{guarded.url}/openapi.json", headers=headers, timeout=patience.SECONDS
        ).json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_open = path == "/metrics" or "health" in path or operation["summary"].endswith("is ready")
            assert ("401" in operation["responses"]) == (not is_open)
            assert ("security" in operation) == (not is_open)


def document(server: Server) -> Any:
    return server.get("/openapi.json").json()
