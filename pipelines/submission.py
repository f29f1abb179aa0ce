"""Runs the pipeline on a cluster: upload it as a version, start a run, follow it to its end, or schedule it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import kfp
import kfp_server_api
import urllib3
from kfp.dsl.graph_component import GraphComponent

from miniml import __version__
from miniml.errors import InputError, MinimlError
from miniml.installation import NAMESPACE
from miniml.progress import duration
from miniml.sources import PACKAGE_SCHEME, locate
from pipelines import server_address
from pipelines.arguments import sources_of
from pipelines.compiled_pipeline import compiled_text, stages_in_order
from pipelines.cron import with_seconds
from pipelines.server_address import ServerAddress

EXPERIMENT = "miniml"
_OVER = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", "CACHED"})
# What the server makes of a step that Argo left out, because a condition was false or a step before it failed.
_LEFT_OUT = "RUNTIME_STATE_UNSPECIFIED"
# Seconds for one look at a run. A forwarded port may take the request and never answer.
_SECONDS_TO_ANSWER = 30
_BUSY = (429, 500, 502, 503, 504)
_REMEDIES = {
    401: " Set KFP_TOKEN to a token of yours that has not expired.",
    403: " Set KFP_TOKEN to a token that may do this, or have the right granted.",
    404: " Check --host and the id: it may have been deleted.",
}
_Answer = TypeVar("_Answer")


class SubmissionError(MinimlError):
    """Kubeflow Pipelines refused the run, does not answer, or the run failed."""


@dataclass(frozen=True)
class Version:
    """A pipeline version that the server has."""

    pipeline_id: str
    version_id: str
    name: str
    stages: list[str]
    """In the order in which they run."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run_id: str
    state: str
    """SUCCEEDED, FAILED or CANCELED."""
    deployed: bool
    """Whether deploy ran: a run whose model the gate rejects succeeds without it."""


class Server:
    """Kubeflow Pipelines at one address."""

    def __init__(
        self,
        client: kfp.Client,
        address: ServerAddress,
        retry_after: tuple[float, ...] = (1.0, 5.0, 15.0, 30.0),
    ) -> None:
        self._client, self.host, self._retry_after = client, address.url, retry_after
        self._address = address

    @classmethod
    def connect(cls, host: str, **options: Any) -> Server:
        """The server at `host` (http://localhost:8880), asked for its health first; KFP_TOKEN is our token, if any.

        Raises:
            InputError: `host` cannot be an address.
            AddressError: nothing, or something else, answers there, or it does not let us in.
        """
        if not host.strip():
            raise InputError(
                "no host is given for Kubeflow Pipelines. Set --host or KFP_HOST; the address of `make cluster` is "
                "http://localhost:8880."
            )
        token = os.environ.get("KFP_TOKEN", "").strip()
        address = server_address.find(host, token)
        with _quiet(), warnings.catch_warnings():
            # It says that it does not speak to version 1; this is version 2's.
            warnings.filterwarnings("ignore", "This client only works with", FutureWarning)
            return cls(kfp.Client(host=address.url, existing_token=token or None), address, **options)

    def upload(self, pipeline: GraphComponent) -> Version:
        """Uploads the pipeline as a version, named by miniml's version and its own content, unless it is there."""
        with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
            path = Path(scratch) / "pipeline.yaml"
            content = compiled_text(pipeline)
            path.write_text(content, encoding="utf-8")
            name = f"{__version__}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
            stages = stages_in_order(content)
            pipeline_id = self._call(lambda: self._client.get_pipeline_id(pipeline.name))
            if pipeline_id is None:
                made = self._call(
                    lambda: self._client.upload_pipeline(str(path), pipeline.name, pipeline.description)
                )
                pipeline_id = made.pipeline_id
            elif found := self._version_named(pipeline_id, name):
                return Version(pipeline_id, found, name, stages)
            version = self._call(lambda: self._client.upload_pipeline_version(str(path), name, pipeline_id))
            return Version(pipeline_id, version.pipeline_version_id, name, stages)

    def start(
        self,
        version: Version,
        arguments: dict[str, Any],
        *,
        name: str,
        service_account: str,
        experiment_name: str = EXPERIMENT,
    ) -> str:
        """Starts a run and gives its id."""
        experiment = self._call(lambda: self._client.create_experiment(experiment_name))
        # Never tried again: a request that was cut may have started it already.
        run = self._once(
            lambda: self._client.run_pipeline(
                experiment.experiment_id,
                name,
                params=arguments,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                service_account=service_account,
            )
        )
        return str(run.run_id)

    def schedule(
        self,
        version: Version,
        arguments: dict[str, Any],
        *,
        name: str,
        service_account: str,
        cron: str,
        experiment_name: str = EXPERIMENT,
    ) -> str:
        """Starts a run whenever `cron` says, and gives the schedule's id. Runs that were missed are not made up for."""
        experiment = self._call(lambda: self._client.create_experiment(experiment_name))
        made = self._once(
            lambda: self._client.create_recurring_run(
                experiment.experiment_id,
                name,
                cron_expression=with_seconds(cron),
                no_catchup=True,
                params=arguments,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                service_account=service_account,
            )
        )
        return str(made.recurring_run_id)

    def follow(
        self,
        run_id: str,
        stages: list[str],
        *,
        timeout: float,
        between_looks: float = 5.0,
        tell: Callable[[str], None],
    ) -> Outcome:
        """Watches a run to its end, and tells each stage's start and end.

        Raises:
            SubmissionError: it did not end within `timeout` seconds (it goes on), or the server went away.
        """
        start = time.monotonic()
        told: dict[tuple[str, int], str] = {}
        turns: dict[str, int] = {}
        while True:
            run = self._call(
                lambda: self._client.runs.run_service_get_run(run_id, _request_timeout=_SECONDS_TO_ANSWER)
            )
            tasks = (run.run_details and run.run_details.task_details) or []
            over = run.state in _OVER
            for number, stage in enumerate(stages, 1):
                for turn, state, words in _turns_of(stage, tasks, turns):
                    if over and state in ("", "PENDING"):
                        state, words = "SKIPPED", "skipped"
                    if state and told.get((stage, turn)) != state:
                        told[stage, turn] = state
                        again = f" ({turn})" if turn > 1 else ""
                        tell(f"[{number}/{len(stages)}] {stage}{again} · {words}")
            if over:
                return Outcome(run_id, run.state, deployed=told.get((stages[-1], 1)) == "SUCCEEDED")
            if time.monotonic() - start > timeout:
                raise SubmissionError(
                    f"the run has not ended after {duration(timeout)}; it goes on: {self.address(run_id)}"
                )
            time.sleep(between_looks)

    def address(self, run_id: str) -> str:
        """Where a person sees the run."""
        return self._address.run(run_id)

    def schedule_address(self, schedule_id: str) -> str:
        """Where a person sees the schedule."""
        return self._address.schedule(schedule_id)

    def ask(self, what: Callable[[kfp.Client], _Answer]) -> _Answer:
        """What the client answers, asked again where the connection is cut: for what may be asked twice."""
        return self._call(lambda: what(self._client))

    def ask_once(self, what: Callable[[kfp.Client], _Answer]) -> _Answer:
        """What the client answers, asked but once: for what would otherwise be done twice."""
        return self._once(lambda: what(self._client))

    def _version_named(self, pipeline_id: str, name: str) -> str | None:
        predicate = {"predicates": [{"operation": "EQUALS", "key": "name", "string_value": name}]}
        listed = self._call(
            lambda: self._client.list_pipeline_versions(
                pipeline_id, page_size=100, filter=json.dumps(predicate)
            )
        )
        # The names are compared here too, for not every server of this API filters.
        for version in listed.pipeline_versions or []:
            if version.display_name == name:
                return str(version.pipeline_version_id)
        return None

    def _call(self, ask: Callable[[], _Answer]) -> _Answer:
        """Asks, and asks again where the connection was cut or the server is busy."""
        for wait in self._retry_after:
            try:
                return self._once(ask)
            except _DroppedError:
                time.sleep(wait)
        return self._once(ask)

    def _once(self, ask: Callable[[], _Answer]) -> _Answer:
        try:
            with _quiet():
                return ask()
        except kfp_server_api.ApiException as error:
            kind = _DroppedError if error.status in _BUSY else SubmissionError
            remedy = _REMEDIES.get(error.status, "")
            raise kind(
                f"Kubeflow Pipelines at {self.host} answers {error.status}: {_message(error).rstrip('.')}.{remedy}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _DroppedError(
                f"Kubeflow Pipelines at {self.host} does not answer any more: {error}"
            ) from error


class _DroppedError(SubmissionError):
    """A request that may go better the next time."""


def require_reachable_from_pods(arguments: dict[str, Any]) -> None:
    """Refuses sources that only this machine has, or nobody.

    Raises:
        InputError: it names the argument and the remedy.
    """
    for argument, source in sources_of(arguments):
        if source.startswith((PACKAGE_SCHEME, "/", ".", "~")) or Path(source).exists():
            raise InputError(
                f"{argument} {source!r} is on this machine, where the cluster's pods cannot read it. Publish it "
                f"(python -m miniml.store publish ... s3://bucket/name@v1) and give that address, or a hub id."
            )
        locate(argument, source)


def logs_command(run_id: str) -> str:
    """What shows the last lines of a run's steps: the server's account of a run holds no step's error."""
    return f"kubectl logs -n {NAMESPACE} -c main --prefix --tail=20 -l pipeline/runid={run_id}"


def _turns_of(stage: str, tasks: list[Any], turns: dict[str, int]) -> list[tuple[int, str, str]]:
    """Each turn of a stage, of which one in a loop has several: its number, its state, and how to say that.

    `turns` keeps the numbers from look to look, by the tasks' names.
    """
    own = [task for task in tasks if task.display_name == stage]
    for task in own:
        turns.setdefault(task.pod_name, 1 + sum(other.pod_name in turns for other in own))
    return [(turns[task.pod_name], *_state_of(task, tasks)) for task in own] or [(1, "", "")]


def _state_of(task: Any, tasks: list[Any]) -> tuple[str, str]:
    """A task's state and how to say it; "" for one that has not begun or was left out."""
    if not task.state or task.state == _LEFT_OUT:
        return "", ""
    if task.state == "SUCCEEDED" and _is_cached(task, tasks):
        return "CACHED", "unchanged, taken from the cache"
    words = str(task.state).lower()
    if task.state in _OVER and task.start_time and task.end_time:
        # A step that never began ends at the beginning of time.
        seconds = max(0.0, (task.end_time - task.start_time).total_seconds())
        words += f" in {duration(seconds)}"
    return str(task.state), words


def _is_cached(task: Any, tasks: list[Any]) -> bool:
    """Whether the stage's container was skipped, which is how a cache hit looks.

    A child is named by its node and a task by its pod: only the hash at their ends is the same.
    """
    children = {_hash(child.pod_name) for child in task.child_tasks or []}
    return any(
        other.display_name == "executor" and other.state == "SKIPPED" and _hash(other.pod_name) in children
        for other in tasks
    )


def _hash(pod_name: str | None) -> str:
    return (pod_name or "").rpartition("-")[2]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The client prints links of its own; ours say the same in one form."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _message(error: kfp_server_api.ApiException) -> str:
    try:
        body = json.loads(error.body)
    except (TypeError, ValueError):
        return str(error.body or error.reason)
    return str(body.get("message") or body.get("error_message") or error.reason)
