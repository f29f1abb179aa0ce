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
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import kfp
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
    from miniml.cluster.api import Cluster

EXPERIMENT = "miniml"
HOW_TO_START = (
    f"Runs need the service account {PIPELINE_ACCOUNT}: write it into Create run's field Service Account, which a "
    f"clone of a run has empty."
)
"""Shown with a pipeline's version in the UI: a run under another account fails at its first step."""
# Looks at a run that has ended while its stages are said to go on: KFP writes the run's state first.
_LOOKS_AFTER_THE_END = 12
# Bytes of workflows a second at most: one may have a megabyte, and is wanted every few seconds.
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
_LONGEST_MESSAGE = 500
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
class _Seen:
    """The workflow of a run, as it was when the run's details were these."""

    workflow: dict[str, Any]
    details: Any
    until: float
    """When it is too old in any case, by the monotonic clock."""


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
        self._workflows: dict[str, _Seen] = {}

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
                f"{KIND_HOST}."
            )
        token = os.environ.get("KFP_TOKEN", "").strip()
        address = server_address.find(host, token)
        with _quiet(), warnings.catch_warnings():
            # It says that it does not speak to version 1; this is version 2's.
            warnings.filterwarnings("ignore", "This client only works with", FutureWarning)
            client = kfp.Client(host=address.url, existing_token=token or None)
        check_requests(client.runs.api_client)
        return cls(client, address, **options)

    def upload(self, pipeline: CompiledPipeline) -> Version:
        """Uploads the pipeline as a version, named by miniml's version and its own content, unless it is there."""
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
        between_looks: float = 5.0,
        patience: float = 60.0,
        tell: Callable[[str], None],
    ) -> Outcome:
        """Watches a run to its end, and tells each stage's start and end, and what keeps one from starting.

        Args:
            run_id: The run.
            stages: Their names, in the order in which they run.
            timeout: Seconds to follow for.
            between_looks: Seconds between two looks.
            patience: Seconds after which a pod that has not started, for no reason that is told, is worth a line.
            tell: Shows a line.

        Raises:
            RefusedError: there is no such run.
            SubmissionError: it did not end within `timeout` seconds (it goes on), or the server went away.
        """
        start, looks_left, cancelled = time.monotonic(), _LOOKS_AFTER_THE_END, False
        reporter = RunReporter(stages, tell, describe_command(run_id), patience)
        while True:
            run = self.look(run_id, stages)
            # An ended run may be retried, and is then none that was cancelled.
            cancelled = run.cancelled or (cancelled and run.over)
            run = replace(run, cancelled=cancelled)
            final = run.over and (run.stages.complete or not looks_left)
            reporter.report(run, final=final)
            if final:
                return outcome_of(run, self)
            if run.over:
                looks_left -= 1
            elif time.monotonic() - start > timeout:
                raise SubmissionError(
                    f"the run has not ended after {duration(timeout)}; it goes on: {self.address(run_id)}"
                )
            time.sleep(between_looks)

    def look(self, run_id: str, stages: list[str]) -> RunState:
        """The run as it is now.

        Its workflow is asked first: the run's own record says less of its tasks, says it later, and stands still once
        the workflow has outgrown 1 MiB.

        Raises:
            SubmissionError: there is no such run, or the server does not answer.
        """
        run = self._call(lambda: self._client.runs.run_service_get_run(run_id))
        state = RunState(
            run_id,
            run.state or "",
            Stages(),
            arguments=(run.runtime_config and run.runtime_config.parameters) or {},
            pipeline_id=(run.pipeline_version_reference and run.pipeline_version_reference.pipeline_id) or "",
        )
        if run.error and not run.state:  # The server cannot read its own record of it.
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
                f"no log of {stage} in run {run_id} is to be had ({'; '.join(refusals) or 'it has not begun'}). "
                f"See its steps: {self.address(run_id)}"
            )
        return log

    def explanation(self, outcome: Outcome) -> str:
        """Why a run did not succeed: the error of each stage that failed, then where to see more."""
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

    @cached_property
    def cluster(self) -> Cluster | None:
        """The cluster of the current kube configuration, where there is one that answers."""
        from miniml.cluster.api import Cluster

        try:
            cluster = Cluster.connect(retry_after=())
            cluster.get("/version")
        except Exception:  # It is not required, whatever is wrong with it.
            return None
        return cluster

    def workflow(self, run_id: str) -> dict[str, Any]:
        """The Argo workflow of a run, as KFP or the cluster has it; empty where nobody has."""
        return self._workflow_of(run_id, None) or {}

    def _workflow_of(self, run_id: str, details: Any) -> dict[str, Any] | None:
        """The Argo workflow of a run, as KFP last saw it, empty before it has; or else as the cluster has it, if any.

        KFP's first API gives what its server keeps of it, for as long as it keeps the run, and that is written together
        with the run's state (kubeflow/pipelines 2.17.0, resource_manager.go, ReportWorkflowResource;
        api_converter.go, toApiRunDetailV1). It is large, and asked for again once the run's `details` are others, or
        after a while.
        """
        seen = self._workflows.get(run_id)
        if seen and details and seen.details == details and time.monotonic() < seen.until:
            return seen.workflow
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
            # An older or newer server, or a run just begun.
            workflow = None
        if not isinstance(workflow, dict):
            return self._workflow_on_the_cluster(run_id)
        until = time.monotonic() + len(answer) / _BYTES_A_SECOND
        self._workflows[run_id] = _Seen(workflow, details, until)
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
        """What a pipeline is called, and its artifacts' folder in the store."""
        return str(self._call(lambda: self._client.get_pipeline(pipeline_id)).display_name)

    def text(self, path: str, query: dict[str, str] | None = None) -> str:
        """What the server answers at a path, asked once, with the client's own credentials."""

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
            # The client's, of an object that it does not know.
            raise SubmissionError(
                f"Kubeflow Pipelines at {self.host} answers what its client cannot read: {clipped(str(error), 200)}"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _DroppedError(
                f"Kubeflow Pipelines at {self.host} does not answer any more: {error}"
            ) from error


class RefusedError(SubmissionError):
    """What was asked for does not exist or makes no sense: the same request will be refused again."""


class _DroppedError(SubmissionError):
    """A request that may go better the next time."""


_REFUSALS = {401: SubmissionError, 403: SubmissionError}


def _description(pipeline: CompiledPipeline) -> str:
    """What the UI shows of a version: first what a run cannot do without."""
    return f"{HOW_TO_START}\n\n{options_by_stage(taken_by(pipeline))}"


def require_reachable_from_pods(arguments: dict[str, Any]) -> None:
    """Refuses sources that only this machine has, or nobody.

    Raises:
        InputError: it names the argument and the remedy.
    """
    for argument, source in sources_of(arguments):
        if not kind_of(argument, source).reachable_from_pods:
            raise InputError(
                f"{argument} {source!r} is on this machine, where the cluster's pods cannot read it. Publish it "
                f"(miniml store publish ... s3://bucket/name@v1) and give that address, or a hub id."
            )
        locate(argument, source)


def logs_command(run_id: str) -> str:
    """What shows the last lines of a run's steps."""
    return f"kubectl logs -n {NAMESPACE} -c main --prefix --tail=20 -l pipeline/runid={run_id}"


def describe_command(run_id: str) -> str:
    """What shows why a run's pods do not start."""
    return f"kubectl describe pods -n {NAMESPACE} -l pipeline/runid={run_id}"


def _was_cancelled(states: list[str]) -> bool:
    """Whether somebody ended the run: it goes from CANCELING to FAILED. (One that is retried goes on from there.)"""
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
    """The client prints links of its own; ours say the same in one form."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _message(error: kfp_server_api.ApiException) -> str:
    try:
        body = json.loads(error.body)
        told = body.get("message") or body.get("error_message") or error.reason
    except (TypeError, ValueError, AttributeError):  # A page, or nothing.
        body = error.body
        told = (body.decode(errors="replace") if isinstance(body, bytes) else body) or error.reason
    return clipped(printable(" ".join(str(told).split())), _LONGEST_MESSAGE)
