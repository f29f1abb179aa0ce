"""What Kubeflow Pipelines 2.17 answers about its own health, and to those who look after runs and schedules.

File names are of kubeflow/pipelines at the tag 2.17.0.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"
PAGE = 20
"""What one answer lists unless more is asked for (backend/src/apiserver/server/list_request_util.go)."""
MAX_PAGE = 200
"""What one answer lists at most (maxPageSize, there)."""
_TERMINABLE = {"PAUSED", "PENDING", "RUNNING", "RUNTIME_STATE_UNSPECIFIED"}
"""States in which a run may be terminated (TerminateRun in backend/src/apiserver/storage/run_store.go)."""

Answer = tuple[int, dict[str, Any]]


@dataclass
class KfpRuns:
    """The runs and schedules that a server has, and which of KFP's two servers it is."""

    is_ui: bool = True
    """Whether this is the UI's server (port 8880 of `make cluster`), which hands on less, or the API's (8881)."""
    api_is_ready: bool = True
    """For the UI's server: whether the API's answers it."""
    listed: list[dict[str, Any]] = field(default_factory=list)
    """Runs that the server has beside the one that a test starts."""
    schedules: list[dict[str, Any]] = field(default_factory=list)
    refuse_to_delete: bool = False
    """Whether deleting a schedule fails."""

    def health(self) -> dict[str, Any]:
        """As frontend/server/handlers/healthz.ts, or healthzResponse in backend/src/apiserver/main.go, writes it."""
        if not self.is_ui:
            return {"commit_sha": "unknown", "tag_name": "2.17.0", "multi_user": False}
        health = {
            "buildDate": "",
            "frontendCommitHash": "",
            "frontendTagName": "",
            "apiServerReady": self.api_is_ready,
        }
        return {**health, "apiServerTagName": "2.17.0", "multi_user": False} if self.api_is_ready else health

    def about_runs(self, method: str, address: str, body: bytes) -> Answer | None:
        """The answer to a request about runs or schedules; None for any other."""
        parts = urlsplit(address)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if (method, parts.path) == ("GET", f"{API}/runs"):
            return HTTPStatus.OK, _page("runs", self.listed, query)
        if (method, parts.path) == ("GET", f"{API}/recurringruns"):
            return HTTPStatus.OK, _page("recurringRuns", self.schedules, query)
        if (method, parts.path) == ("POST", f"{API}/recurringruns"):
            return HTTPStatus.OK, self._create(json.loads(body))
        if found := re.fullmatch(rf"{API}/recurringruns/([\w-]+)(:enable|:disable)?", parts.path):
            return self._about_schedule(method, found[1], found[2])
        if found := re.fullmatch(rf"{API}/runs/([\w-]+)(:terminate)?", parts.path):
            return self._about_run(found[1], found[2])
        return None

    def _about_run(self, run_id: str, action: str | None) -> Answer | None:
        run = next((run for run in self.listed if run["run_id"] == run_id), None)
        if not run:
            return _missing("Run", run_id) if action or self.listed else None
        if action and run["state"] not in _TERMINABLE:
            message = f"Failed to terminate a run {run_id}. Row not found"
            return HTTPStatus.BAD_REQUEST, {"message": message, "code": 3}
        if action:
            run["state"] = "CANCELING"
            return HTTPStatus.OK, {}
        return HTTPStatus.OK, run

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        """As toApiRecurringRun in backend/src/apiserver/server/api_converter.go tells of what was made."""
        made = {
            "recurring_run_id": uuid_of(f"schedule {len(self.schedules)}"),
            "created_at": f"2026-01-01T00:00:{len(self.schedules):02}Z",
            "status": "ENABLED" if given["mode"] == "ENABLE" else "DISABLED",
            "namespace": "kubeflow",
            **given,
        }
        self.schedules.append(made)
        return made

    def _about_schedule(self, method: str, schedule_id: str, action: str | None) -> Answer:
        one = next((one for one in self.schedules if one["recurring_run_id"] == schedule_id), None)
        if not one:
            return _missing("Recurring run", schedule_id)
        if method == "GET":
            return HTTPStatus.OK, one
        if method == "DELETE" and self.refuse_to_delete:
            return HTTPStatus.FORBIDDEN, {"message": "may not delete", "code": 7}
        if method == "DELETE":
            self.schedules.remove(one)
        else:
            word = (action or "")[1:].upper()
            one |= {"mode": word, "status": f"{word}D"}
        return HTTPStatus.OK, {}


def uuid_of(name: str) -> str:
    """An id as the server gives them: the same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def _page(kind: str, every: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """Some of what there is, in the order asked for, with a token for the rest (list_request_util.go, list/list.go)."""
    column, _, direction = query.get("sort_by", "created_at").partition(" ")
    ordered = sorted(every, key=lambda one: str(one.get(column)), reverse=direction == "desc")
    start, size = int(query.get("page_token") or 0), min(int(query.get("page_size") or PAGE), MAX_PAGE)
    rest = {"next_page_token": str(start + size)} if start + size < len(ordered) else {}
    return {kind: ordered[start : start + size], "total_size": len(every), **rest}


def _missing(what: str, name: str) -> Answer:
    return HTTPStatus.NOT_FOUND, {"message": f"{what} {name} not found", "code": 5}
