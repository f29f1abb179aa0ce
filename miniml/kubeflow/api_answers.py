"""What the servers that stand before Kubeflow Pipelines answer in its place, kept from its client."""

from __future__ import annotations

import json
from typing import Any

import kfp_server_api
from kfp_server_api.rest import RESTClientObject

SECONDS_TO_ANSWER = 30
"""For one request. A forwarded port may take it and never answer."""


class UnreadableAnswerError(Exception):
    """What was answered is no answer of the API."""


class CheckedRequests(RESTClientObject):  # type: ignore[misc]  # it has no types
    """Makes the client's requests, follows no redirect, and hands on only the JSON objects that the API answers.

    The client itself takes a page to log in at for an answer that lists nothing, and sends what was redirected again
    without its body. It waits for ever, too.
    """

    def request(self, method: str, url: str, **options: Any) -> Any:
        """As the client's own.

        Raises:
            UnreadableAnswerError: it answers something else.
        """
        options["_request_timeout"] = options.get("_request_timeout") or SECONDS_TO_ANSWER
        answer = super().request(method, url, **options)
        if options.get("_preload_content", True):
            _require_object(answer.data)
        return answer


def check_requests(api_client: kfp_server_api.ApiClient) -> None:
    """Has the client make its requests so."""
    # Neither does urllib3 repeat any: whether one may be sent twice is known further up.
    api_client.configuration.retries = False
    api_client.rest_client = CheckedRequests(api_client.configuration)


def _require_object(content: bytes) -> None:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UnreadableAnswerError(repr(bytes(content[:80])).removeprefix("b"))
