"""The OpenAPI document is true: what it lets a client send is answered as it says."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.predictor import Server, told_since_start

EXAMPLES = 15  # of each operation

bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
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
            # Of /metrics KServe's document says that it were JSON.
            typed = [] if case.path == "/metrics" else [content_type_conformance]
            case.call_and_validate(checks=[answers, response_schema_conformance, *typed])

        keeps_its_word()
        tried += 1
    assert tried > 10
    assert all(line.startswith("{") for line in told_since_start(server).splitlines())
