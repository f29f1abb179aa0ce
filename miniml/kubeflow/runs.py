"""Lists a pipeline's runs on a server, finds one by a part of its id, and cancels it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from miniml.kubeflow.submission import Server, SubmissionError

if TYPE_CHECKING:
    import kfp

LATEST = "latest"
"""The word for the newest run, in place of an id."""
HELP = f"the run's id or the beginning of it, its name, or {LATEST}"
MAX_SEARCHED = 1_000
"""The number of newest runs among which one is searched by a part of its id."""
_PAGE = 100
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A run that has just been created has no state.
_STATES = {"RUNTIME_STATE_UNSPECIFIED": "PENDING", "": "PENDING"}
_GOING_ON = ("PENDING", "RUNNING", "PAUSED")


@dataclass(frozen=True)
class ListedRun:
    """A run, as a list shows it."""

    run_id: str
    name: str
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED, CANCELING, ...; a cancelled run ends as FAILED."""
    created_at: datetime | None
    service: str
    """The run's argument service_name: the InferenceService that it deploys."""


def runs_of(server: Server, pipeline: str) -> Iterator[ListedRun]:
    """Yields the runs of a pipeline that are not archived, newest first, and requests pages as they are needed.

    Raises:
        SubmissionError: The server does not answer, or its list has no end.
    """
    for run in of_pipeline(server, pipeline, _page_of_runs, "runs"):
        if run.storage_state != "ARCHIVED":
            yield _read(run)


def find_run(server: Server, pipeline: str, given: str) -> str:
    """Returns the id of a run.

    Args:
        server: The server.
        pipeline: The pipeline's name.
        given: `latest`, the beginning of an id, or a run's name. If no run matches, it is returned unchanged: the
            server may know a run of that id.

    Args:
        server: The server of Kubeflow Pipelines.
        pipeline: The name of the pipeline.
        given: What stands for the run.

    Raises:
        SubmissionError: Nothing was given, several runs match, or there is no newest run.
    """
    if not given.strip():
        raise SubmissionError(f"no run is named. Give {HELP}.")
    if _ID.fullmatch(given):
        return given
    every = islice(runs_of(server, pipeline), MAX_SEARCHED)
    if given == LATEST:
        newest = next(every, None)
        if not newest:
            raise SubmissionError(f"{server.host} has no run of {pipeline} yet.")
        return newest.run_id
    found = [run for run in every if run.run_id.startswith(given) or run.name == given]
    return the_only_one([(run.run_id, run.name) for run in found], given, "runs") if found else given


def cancel(server: Server, run_id: str) -> None:
    """Cancels a run, and stops its running step.

    Raises:
        SubmissionError: The run has ended, or there is no such run.
    """
    state = _read(server.ask(lambda client: client.get_run(run_id))).state
    if state not in _GOING_ON:
        raise SubmissionError(f"run {run_id} does not go on: it is {state}. There is nothing to cancel.")
    # Sent once: a second request would be refused, as the run is being cancelled.
    server.ask_once(lambda client: client.terminate_run(run_id))


def of_pipeline(
    server: Server, pipeline: str, ask: Callable[[kfp.Client, str], Any], kind: str
) -> Iterator[Any]:
    """Yields everything of a pipeline that a server lists page by page.

    Args:
        server: The server.
        pipeline: The pipeline's name.
        ask: Returns the page with a token; the first page's token is "".
        kind: The page's attribute that holds the list.

    Raises:
        SubmissionError: The server does not answer, or its list has no end.
    """
    pipeline_id = server.ask(lambda client: client.get_pipeline_id(pipeline))
    token, seen = "", {""}
    while pipeline_id:
        page = server.ask(lambda client, token=token: ask(client, token))  # type: ignore[misc]
        for one in getattr(page, kind) or []:
            reference = one.pipeline_version_reference
            if reference and reference.pipeline_id == pipeline_id:
                yield one
        token = page.next_page_token
        if not token:
            return
        if token in seen:
            raise SubmissionError(
                f"{server.host} lists the same page again and again. Is it Kubeflow Pipelines?"
            )
        seen.add(token)


def the_only_one(found: list[tuple[str, str]], given: str, kind: str) -> str:
    """Returns the id of the only match.

    Args:
        found: The ids and names of the matches, at least one.
        given: The search term.
        kind: The plural of what is searched, for the message: runs.

    Raises:
        SubmissionError: There are several matches.
    """
    if len(found) > 1:
        matches = ", ".join(f"{one} ({name})" for one, name in found[:5])
        raise SubmissionError(
            f"{given!r} may be any of {len(found)} {kind}: {matches}. Write more of the id."
        )
    return found[0][0]


def _page_of_runs(client: kfp.Client, token: str) -> Any:
    return client.list_runs(page_token=token, page_size=_PAGE, sort_by="created_at desc")


def _read(run: Any) -> ListedRun:
    parameters = (run.runtime_config and run.runtime_config.parameters) or {}
    state = str(run.state or "")
    return ListedRun(
        run.run_id,
        run.display_name or "",
        _STATES.get(state, state),
        run.created_at,
        str(parameters.get("service_name", "")),
    )
