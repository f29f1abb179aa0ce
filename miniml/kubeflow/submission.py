"""Runs a pipeline on a cluster: uploads it as a version, starts or schedules runs, and follows them to their end."""

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
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import kfp_server_api
import urllib3

from miniml import __version__
from miniml.errors import InputError, MinimlError
from miniml.escaping import clipped, printable
from miniml.kubeflow import server_address
from miniml.kubeflow.api_answers import UnreadableAnswerError, check_requests
from miniml.kubeflow.cron import with_seconds
from miniml.kubeflow.outcome import Outcome, outcome_of
from miniml.kubeflow.run_pods import with_pods
from miniml.kubeflow.run_reporter import RunReporter
from miniml.kubeflow.run_state import RunState, Stages, Turn, stages_from_tasks
from miniml.kubeflow.server_address import ServerAddress
from miniml.kubeflow.step_log import failure_of, log_of
from miniml.kubeflow.workflow import stages_from_workflow, was_terminated
from miniml.pipeline.arguments import sources_of, taken_by
from miniml.pipeline.compiled import CompiledPipeline
from miniml.pipeline.description import options_by_stage
from miniml.progress import duration
from miniml.resource_names import KIND_HOST, NAMESPACE, PIPELINE_ACCOUNT
from miniml.sources.address import kind_of, locate

if TYPE_CHECKING:
    import kfp

    from miniml.cluster.api import Cluster

EXPERIMENT = "miniml"
HOW_TO_START = (
    f"Runs need the service account {PIPELINE_ACCOUNT}: write it into Create run's field Service Account, which a "
    f"clone of a run has empty."
)
"""The hint in the description of a version in the UI: a run under another account fails at its first step."""
# The most requests for a run that has ended while its stages still seem to run: KFP writes the run's state first.
_REQUESTS_AFTER_THE_END = 12
# The most bytes of workflows per second: one may have a megabyte, and is requested every few seconds.
_BYTES_A_SECOND = 100_000
_WORKFLOWS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows"
_BUSY = (429, 500, 502, 503, 504)
_REMEDIES = {
    401: " Set KFP_TOKEN to a token of yours that has not expired.",
    403: " Set KFP_TOKEN to a token that may do this, or have the right granted.",
    404: " Check --host and the id: it may have been deleted.",
    **dict.fromkeys(
        (301, 302, 303, 307, 308),
        " It sends us elsewhere: give that address as --host, or log in: KFP_TOKEN.",
    ),
}
_MAX_MESSAGE_LENGTH = 500
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
    """The names of the stages, in the order in which they run."""


@dataclass(frozen=True)
class _CachedWorkflow:
    """The workflow of a run, as it was when the run had these details."""

    workflow: dict[str, Any]
    details: Any
    until: float
    """The time of the monotonic clock at which it expires in any case."""


class Server:
    """A server of Kubeflow Pipelines."""

    def __init__(
        self,
        client: kfp.Client,
        address: ServerAddress,
        retry_after: tuple[float, ...] = (1.0, 5.0, 15.0, 30.0),
    ) -> None:
        """Takes a client, which sends no request yet.

        Args:
            client: The client of Kubeflow Pipelines.
            address: The addresses of the server and its UI.
            retry_after: Seconds before each retry of a request.
        """
        self._client, self.host, self._retry_after = client, address.url, retry_after
        self._address = address
        self._workflows: dict[str, _CachedWorkflow] = {}

    @classmethod
    def connect(cls, host: str, **options: Any) -> Server:
        """Connects to the server at `host`, after a health check; the bearer token, if any, comes from KFP_TOKEN.

        Args:
            host: The address: http://localhost:8880.
            options: Other arguments of the constructor.

        Raises:
            InputError: `host` cannot be an address.
            AddressError: There is no answer, or not one of Kubeflow Pipelines, or it refuses access.
        """
        if not host.strip():
            raise InputError(
                "no host is given for Kubeflow Pipelines. Set --host or KFP_HOST; the address of `make cluster` is "
                f"{KIND_HOST}."
            )
        import kfp  # Only here: it takes half a second, and `miniml --version` needs no client.

        token = os.environ.get("KFP_TOKEN", "").strip()
        address = server_address.find(host, token)
        with _quiet(), warnings.catch_warnings():
            # The client warns that it does not support version 1 of the API; only version 2 is used here.
            warnings.filterwarnings("ignore", "This client only works with", FutureWarning)
            client = kfp.Client(host=address.url, existing_token=token or None)
        check_requests(client.runs.api_client)
        return cls(client, address, **options)

    def upload(self, pipeline: CompiledPipeline) -> Version:
        """Uploads the pipeline as a version, unless the server has it: its name is miniml's version and a digest.

        Raises:
            SubmissionError: The server refuses, or does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="miniml-") as scratch:
            path = Path(scratch) / "pipeline.yaml"
            path.write_text(pipeline.text, encoding="utf-8")
            name = f"{__version__}-{hashlib.sha256(pipeline.text.encode()).hexdigest()[:12]}"
            pipeline_id = self._call(lambda: self._client.get_pipeline_id(pipeline.name))
            if pipeline_id is None:
                made = self._call(
                    lambda: self._client.upload_pipeline(str(path), pipeline.name, pipeline.description)
                )
                pipeline_id = made.pipeline_id
            elif found := self._version_named(pipeline_id, name):
                return Version(pipeline_id, found, name, pipeline.stages)
            version = self._call(
                lambda: self._client.upload_pipeline_version(
                    str(path), name, pipeline_id, description=_description(pipeline)
                )
            )
            return Version(pipeline_id, version.pipeline_version_id, name, pipeline.stages)

    def start(
        self,
        version: Version,
        arguments: dict[str, Any],
        *,
        name: str,
        service_account: str,
        experiment_name: str = EXPERIMENT,
    ) -> str:
        """Starts a run.

        Args:
            version: The pipeline's version.
            arguments: The arguments, as the pipeline takes them.
            name: The name of the run.
            service_account: The service account of the steps.
            experiment_name: The experiment of the run; it is created if it does not exist.

        Returns:
            The id of the run.

        Raises:
            SubmissionError: The server refuses, or does not answer.
        """
        experiment = self._call(lambda: self._client.create_experiment(experiment_name))
        # Sent once: a request whose connection broke may already have started the run.
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
        """Creates a schedule, which starts runs at certain times. Runs that were missed are not made up for.

        Args:
            version: The pipeline's version.
            arguments: The arguments, as the pipeline takes them.
            name: The name of the schedule.
            service_account: The service account of the steps.
            cron: A cron expression (see `miniml.kubeflow.cron`).
            experiment_name: The experiment of the runs; it is created if it does not exist.

        Returns:
            The id of the schedule.

        Raises:
            InputError: `cron` is not a cron expression.
            SubmissionError: The server refuses, or does not answer.
        """
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
        poll_interval: float = 5.0,
        slow_start: float = 60.0,
        show: Callable[[str], None],
    ) -> Outcome:
        """Follows a run to its end, and reports when a stage starts or ends, and what keeps it from starting.

        Args:
            run_id: The id of the run.
            stages: The names of the pipeline's stages, in the order in which they run.
            timeout: The most seconds to follow the run.
            poll_interval: Seconds between two requests.
            slow_start: Seconds that a pod may take to start before a line says how to find out why it does not.
            show: Prints a line.

        Returns:
            How the run ended.

        Raises:
            RefusedError: There is no such run.
            SubmissionError: The run did not end within `timeout` seconds (it goes on), or the server does not answer.
        """
        start, requests_left, cancelled = time.monotonic(), _REQUESTS_AFTER_THE_END, False
        reporter = RunReporter(stages, show, describe_command(run_id), slow_start)
        while True:
            run = self.look(run_id, stages)
            # A run that was cancelled may be retried; then it counts as cancelled no more.
            cancelled = run.cancelled or (cancelled and run.over)
            run = replace(run, cancelled=cancelled)
            final = run.over and (run.stages.complete or not requests_left)
            reporter.report(run, final=final)
            if final:
                return outcome_of(run, self)
            if run.over:
                requests_left -= 1
            elif time.monotonic() - start > timeout:
                raise SubmissionError(
                    f"the run has not ended after {duration(timeout)}; it goes on: {self.address(run_id)}"
                )
            time.sleep(poll_interval)

    def look(self, run_id: str, stages: list[str]) -> RunState:
        """Returns the current state of a run.

        It is read from the workflow where possible: the run's own record says less about its tasks, says it later, and
        is not updated any more once the workflow is larger than 1 MiB.

        Args:
            run_id: The id of the run.
            stages: The names of the pipeline's stages, in the order in which they run.

        Raises:
            SubmissionError: There is no such run, or the server does not answer.
        """
        run = self._call(lambda: self._client.runs.run_service_get_run(run_id))
        state = RunState(
            run_id,
            run.state or "",
            Stages(),
            arguments=(run.runtime_config and run.runtime_config.parameters) or {},
            pipeline_id=(run.pipeline_version_reference and run.pipeline_version_reference.pipeline_id) or "",
        )
        if run.error and not run.state:  # The server cannot read its own record of the run.
            raise RefusedError(f"run {run_id}: {run.error.message}")
        history = [entry.state for entry in run.state_history or []]
        workflow = self._workflow_of(run_id, None if state.over else run.run_details)
        read = stages_from_workflow(workflow or {}, stages)
        if read is None:
            tasks = (run.run_details and run.run_details.task_details) or []
            read = stages_from_tasks(tasks, stages)
        if workflow is None:
            read = with_pods(read, self._pods_of(run_id))
        cancelled = was_terminated(workflow or {}) or _was_cancelled([*history, run.state])
        return replace(state, stages=read, cancelled=cancelled)

    def step_log(self, run_id: str, stage: str, number: int = 1) -> str:
        """Returns the log of a step's last attempt.

        Args:
            run_id: The id of the run.
            stage: The stage.
            number: The turn of a stage in a loop, from 1.

        Raises:
            SubmissionError: There is no such run, or its log was not found; the message says where it was looked for.
        """
        run = self.look(run_id, [stage])
        turn = next((turn for turn in run.turns_of(stage) if turn.number == number), Turn(stage, number))
        log, refusals = log_of(self, run, turn)
        if not log:
            raise SubmissionError(
                f"no log of {stage} in run {run_id} was found ({'; '.join(refusals) or 'it has not begun'}). "
                f"See its steps: {self.address(run_id)}"
            )
        return log

    def explanation(self, outcome: Outcome) -> str:
        """Returns why a run did not succeed: the error of each stage that failed, and where to see more."""
        run_id = outcome.run.run_id
        if outcome.state == "CANCELED":
            return f"the run was cancelled: {self.address(run_id)}"
        lines = [f"{name}: {message}{_remedy(message)}" for name, message in outcome.troubles.items()]
        lines += [f"{turn}: {failure_of(self, outcome.run, turn)}" for turn in outcome.failed]
        lines.append(
            f"the run ended as {outcome.state}. Its steps and their logs: {self.address(run_id)}, "
            f"or: {logs_command(run_id)}"
        )
        return "\n".join(lines)

    def address(self, run_id: str) -> str:
        """Returns the address of the run's page in the UI."""
        return self._address.run(run_id)

    def schedule_address(self, schedule_id: str) -> str:
        """Returns the address of the schedule's page in the UI."""
        return self._address.schedule(schedule_id)

    def ask(self, request: Callable[[kfp.Client], _Answer]) -> _Answer:
        """Sends a request that may be sent twice, and retries where the connection breaks or the server is busy.

        Args:
            request: Sends the request by the client, and returns the response.

        Raises:
            SubmissionError: The server refuses, or does not answer.
        """
        return self._call(lambda: request(self._client))

    def ask_once(self, request: Callable[[kfp.Client], _Answer]) -> _Answer:
        """Sends a request that must not be sent twice, as it creates or changes something.

        Args:
            request: Sends the request by the client, and returns the response.

        Raises:
            SubmissionError: The server refuses, or does not answer.
        """
        return self._once(lambda: request(self._client))

    @cached_property
    def cluster(self) -> Cluster | None:
        """The cluster of the current kube configuration; None where there is none, or it does not answer."""
        from miniml.cluster.api import Cluster

        try:
            cluster = Cluster.connect(retry_after=())
            cluster.get("/version")
        except Exception:  # It is not required, whatever is wrong with it.
            return None
        return cluster

    def workflow(self, run_id: str) -> dict[str, Any]:
        """Returns the Argo workflow of a run from KFP or the cluster; empty where neither has it."""
        return self._workflow_of(run_id, None) or {}

    def _workflow_of(self, run_id: str, details: Any) -> dict[str, Any] | None:
        """Returns the Argo workflow of a run from KFP, or else from the cluster; None where neither has it.

        Version 1 of KFP's API returns the workflow that its server stored together with the run's state, for as long as
        it has the run (kubeflow/pipelines 2.17.0, resource_manager.go, ReportWorkflowResource; api_converter.go,
        toApiRunDetailV1); it is empty at first. As it is large, it is requested again only after the run's `details`
        have changed, or after a while.
        """
        cached = self._workflows.get(run_id)
        if cached and details and cached.details == details and time.monotonic() < cached.until:
            return cached.workflow
        try:
            answer = self.text(f"/apis/v1beta1/runs/{run_id}")
            workflow = json.loads(json.loads(answer)["pipeline_runtime"]["workflow_manifest"])
        except (
            SubmissionError,
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
        ):
            # The server is of another version, or the run has just begun.
            workflow = None
        if not isinstance(workflow, dict):
            return self._workflow_on_the_cluster(run_id)
        until = time.monotonic() + len(answer) / _BYTES_A_SECOND
        self._workflows[run_id] = _CachedWorkflow(workflow, details, until)
        return workflow

    def _workflow_on_the_cluster(self, run_id: str) -> dict[str, Any] | None:
        if self.cluster is None:
            return None
        with contextlib.suppress(MinimlError):
            return next(iter(self.cluster.labelled(_WORKFLOWS, f"pipeline/runid={run_id}")), None)
        return None

    def _pods_of(self, run_id: str) -> list[dict[str, Any]]:
        if self.cluster is None:
            return []
        with contextlib.suppress(MinimlError):
            return self.cluster.pods_with(NAMESPACE, f"pipeline/runid={run_id}")
        return []

    def pipeline_name(self, pipeline_id: str) -> str:
        """Returns a pipeline's name, which is also the folder of its artifacts in the store."""
        return str(self._call(lambda: self._client.get_pipeline(pipeline_id)).display_name)

    def text(self, path: str, query: dict[str, str] | None = None) -> str:
        """Returns the body of the response to a GET request with the client's credentials, which is sent once.

        Raises:
            SubmissionError: The server refuses, or does not answer.
        """

        def ask() -> str:
            response = self._client.runs.api_client.call_api(
                path,
                "GET",
                query_params=list((query or {}).items()),
                header_params={"Accept": "*/*"},
                auth_settings=["Bearer"],
                _preload_content=False,
                _return_http_data_only=True,
            )
            return bytes(response.data).decode("utf-8", errors="replace")

        return self._once(ask)

    def _version_named(self, pipeline_id: str, name: str) -> str | None:
        predicate = {"predicates": [{"operation": "EQUALS", "key": "name", "string_value": name}]}
        listed = self._call(
            lambda: self._client.list_pipeline_versions(
                pipeline_id, page_size=100, filter=json.dumps(predicate)
            )
        )
        # The names are compared here too, because not every server of this API filters.
        for version in listed.pipeline_versions or []:
            if version.display_name == name:
                return str(version.pipeline_version_id)
        return None

    def _call(self, ask: Callable[[], _Answer]) -> _Answer:
        """Sends a request, and retries where the connection breaks or the server is busy."""
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
            kind = _DroppedError if error.status in _BUSY else _REFUSALS.get(error.status, RefusedError)
            remedy = _REMEDIES.get(error.status, "")
            raise kind(
                f"Kubeflow Pipelines at {self.host} answers {error.status}: {_message(error).rstrip('.')}.{remedy}"
            ) from error
        except UnreadableAnswerError as error:
            raise SubmissionError(
                f"{self.host} answers what Kubeflow Pipelines would not: {error}. If that is a page to log in at, set "
                f"KFP_TOKEN to a token of yours that has not expired."
            ) from error
        except (
            ValueError,
            TypeError,
            AttributeError,
        ) as error:
            # The client raises these for a response that it cannot parse.
            raise SubmissionError(
                f"Kubeflow Pipelines at {self.host} answers what its client cannot read: {clipped(str(error), 200)}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _DroppedError(
                f"Kubeflow Pipelines at {self.host} does not answer any more: {error}"
            ) from error


class RefusedError(SubmissionError):
    """The server refused a request, and would refuse it again: the object does not exist, or the request is invalid."""


class _DroppedError(SubmissionError):
    """A request failed that may succeed if it is sent again."""


_REFUSALS = {401: SubmissionError, 403: SubmissionError}


def _description(pipeline: CompiledPipeline) -> str:
    """Returns the description of a version for the UI; the hint that every run needs comes first."""
    return f"{HOW_TO_START}\n\n{options_by_stage(taken_by(pipeline))}"


def require_reachable_from_pods(arguments: dict[str, Any]) -> None:
    """Checks that the cluster's pods can read all sources.

    Raises:
        InputError: A source is on this machine only, or does not exist; the message names the argument and the remedy.
    """
    for argument, source in sources_of(arguments):
        if not kind_of(argument, source).reachable_from_pods:
            raise InputError(
                f"{argument} {source!r} is on this machine, where the cluster's pods cannot read it. Publish it "
                f"(miniml store publish ... s3://bucket/name@v1) and give that address, or a hub id."
            )
        locate(argument, source)


def logs_command(run_id: str) -> str:
    """Returns the command that shows the last lines of the logs of a run's steps."""
    return f"kubectl logs -n {NAMESPACE} -c main --prefix --tail=20 -l pipeline/runid={run_id}"


def describe_command(run_id: str) -> str:
    """Returns the command that shows why a run's pods do not start."""
    return f"kubectl describe pods -n {NAMESPACE} -l pipeline/runid={run_id}"


def _was_cancelled(states: list[str]) -> bool:
    """Whether somebody cancelled the run: its state then goes from CANCELING to FAILED, and on if it is retried."""
    return states[-1] in ("CANCELING", "CANCELED") or "CANCELING" in _without_repeats(states)[-2:]


def _without_repeats(states: list[str]) -> list[str]:
    return [state for state, before in zip(states, ["", *states], strict=False) if state != before]


def _remedy(message: str) -> str:
    if "error looking up service account" not in message:
        return ""
    return (
        ". Install it (kubectl apply -k manifests/overlays/<yours>), or name another one: --pipeline-account."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses what the client prints: links that miniml prints in its own form."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _message(error: kfp_server_api.ApiException) -> str:
    try:
        body = json.loads(error.body)
        message = body.get("message") or body.get("error_message") or error.reason
    except (TypeError, ValueError, AttributeError):  # The body is not JSON.
        body = error.body
        message = (body.decode(errors="replace") if isinstance(body, bytes) else body) or error.reason
    return clipped(printable(" ".join(str(message).split())), _MAX_MESSAGE_LENGTH)
