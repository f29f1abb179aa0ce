"""Protects the client of Kubeflow Pipelines from the responses of other servers, such as a proxy or a login page."""

from __future__ import annotations

import json
from typing import Any

import kfp_server_api
from kfp_server_api.rest import RESTClientObject

SECONDS_TO_ANSWER = 30
"""The longest that a request may take: a forwarded port may accept it and never answer."""


class UnreadableAnswerError(Exception):
    """The response does not come from the API of Kubeflow Pipelines."""


class CheckedRequests(RESTClientObject):  # type: ignore[misc]  # it has no types
    """Makes the client's requests, follows no redirects, and accepts only JSON objects, which the API answers.

    The client itself takes a login page for an empty list, repeats a redirected request without its body, and has no
    timeout.
    """

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Makes a request as `RESTClientObject` does.

        Args:
            method: The HTTP method.
            url: The address.
            options: The client's other arguments.

        Raises:
            UnreadableAnswerError: The response is not a JSON object.
        """
        options["_request_timeout"] = options.get("_request_timeout") or SECONDS_TO_ANSWER
        answer = super().request(method, url, **options)
        if options.get("_preload_content", True):
            _require_object(answer.data)
        return answer


def check_requests(api_client: kfp_server_api.ApiClient) -> None:
    """Makes the client send its requests as `CheckedRequests`."""
    # urllib3 must not retry: only the callers know which requests may be sent twice.
    api_client.configuration.retries = False
    api_client.rest_client = CheckedRequests(api_client.configuration)


def _require_object(content: bytes) -> None:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UnreadableAnswerError(repr(bytes(content[:80])).removeprefix("b"))
