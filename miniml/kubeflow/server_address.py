"""Reads the address of Kubeflow Pipelines as people write it, and finds out which of its two servers answers there.

The UI's server forwards requests to the API, so all commands work with either address; but only the UI shows a run.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from miniml.errors import InputError, MinimlError
from miniml.escaping import clipped, quoted
from miniml.resource_names import KIND_HOST, NAMESPACE

HEALTH = "/apis/v2beta1/healthz"
UI_VARIABLE = "KFP_UI"
"""The environment variable with the UI's address, where KFP_HOST is the address of the API server."""
_FORWARDED = 8080
FORWARD_UI = f"kubectl port-forward -n {NAMESPACE} svc/ml-pipeline-ui {_FORWARDED}:80"
FORWARDED_UI = f"http://localhost:{_FORWARDED}"
_SECONDS_TO_ANSWER = 10
_EXAMPLE = f"{KIND_HOST}, or https://kubeflow.example.com/pipeline"
_WITHOUT_SCHEME = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?([/?#]\S*)?", re.ASCII)


class AddressError(MinimlError):
    """There is no usable Kubeflow Pipelines at an address."""


@dataclass(frozen=True)
class ServerAddress:
    """The addresses of a server of Kubeflow Pipelines and of its UI."""

    url: str
    """The base URL of all requests."""
    ui: str = ""
    """The UI's address; empty where it is unknown."""

    def run(self, run_id: str) -> str:
        """Returns the address of a run's page in the UI."""
        return self._page(f"runs/details/{run_id}")

    def schedule(self, schedule_id: str) -> str:
        """Returns the address of a schedule's page in the UI."""
        return self._page(f"recurringrun/details/{schedule_id}")

    def _page(self, path: str) -> str:
        if self.ui:
            return f"{self.ui}/#/{path}"
        return f"{FORWARDED_UI}/#/{path} (while this runs: {FORWARD_UI}; or set {UI_VARIABLE} to the UI's address)"


def find(host: str, token: str = "") -> ServerAddress:
    """Finds Kubeflow Pipelines at `host`: the response to a health check tells the UI's server from the API's.

    Args:
        host: An address, as `url_of` takes it.
        token: A bearer token; "" sends none.

    Raises:
        InputError: `host` cannot be an address.
        AddressError: There is no answer, or not one of Kubeflow Pipelines, or it refuses access.
    """
    url = url_of(host)
    health = _health(url, host, token)
    # frontend/server/handlers/healthz.ts writes apiServerReady, and backend/src/apiserver/main.go does not.
    if health.get("apiServerReady") is False:
        raise AddressError(
            f"the UI of Kubeflow Pipelines answers at {url}, but its API server does not. Is its pod ready? "
            f"kubectl get pods -n {NAMESPACE} -l app=ml-pipeline"
        )
    if "apiServerReady" in health:
        return ServerAddress(url, url)
    ui = os.environ.get(UI_VARIABLE, "")
    return ServerAddress(url, url_of(ui, named=UI_VARIABLE) if ui else "")


def url_of(host: str, *, named: str = "--host") -> str:
    """Returns the base URL that an address stands for: `localhost:8880` is http, another host without a scheme https.

    Args:
        host: An address, with or without a scheme or a path, as a browser's address bar may show it.
        named: The option or variable that holds the address, for the message.

    Raises:
        InputError: `host` cannot be an address.
    """
    given = host.strip()
    if "@" in re.split(r"[?#]", given)[0]:
        raise InputError(
            f"{named} holds an '@', as before it a name or password would be; it is not repeated here. Leave all "
            f"before it out, and set KFP_TOKEN to a token."
        )
    if "://" not in given and _WITHOUT_SCHEME.fullmatch(given):
        given = f"{'http' if _is_this_machine(given) else 'https'}://{given}"
    try:
        parts = urlsplit(given)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as error:
        raise InputError(
            f"{named} {quoted(host)} is no address: {error}. Give one like {_EXAMPLE}."
        ) from error
    name = parts.hostname or ""
    if parts.scheme not in ("http", "https") or " " in given or not re.fullmatch(r"[\w.:-]+", name, re.ASCII):
        raise InputError(
            f"{named} {quoted(host)} is no address of Kubeflow Pipelines. Give one like {_EXAMPLE}."
        )
    # The path of the server itself, without the path of a page or request behind it.
    path = parts.path.partition("/apis/")[0].removesuffix("/apis").removesuffix("/index.html").rstrip("/")
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{port}{path}"


def _is_this_machine(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _health(url: str, host: str, token: str) -> dict[str, Any]:
    address = url + HEALTH
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.get(address, headers=headers, timeout=_SECONDS_TO_ANSWER)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        guessed = (
            "" if "://" in host else f" It was taken for {url}: write the http:// or https:// that it needs."
        )
        raise AddressError(
            f"no Kubeflow Pipelines answers at {url} ({type(error).__name__}).{guessed} Is the cluster up "
            f"(make cluster)? Or forward a port to it: {FORWARD_UI}."
        ) from error
    if answer.status_code in (401, 403):
        raise AddressError(
            f"{url} answers {answer.status_code}: it does not let us in. Set KFP_TOKEN to a token of yours."
        )
    if not answer.ok:
        raise AddressError(
            f"{url} answers {answer.status_code} at {address}: that is not Kubeflow Pipelines' API. Check --host."
        )
    try:
        health = answer.json()
    except ValueError:
        health = None
    if not isinstance(health, dict) or not {"apiServerReady", "multi_user"} & health.keys():
        raise AddressError(
            f"{address} answers what Kubeflow Pipelines would not: {clipped(' '.join(answer.text.split()), 80)!r}. "
            f"Check --host; if that is a page to log in at, set KFP_TOKEN to a token of yours."
        )
    return health
