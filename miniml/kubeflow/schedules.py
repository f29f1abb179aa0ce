"""Lists a pipeline's schedules on a server, finds, changes, pauses, resumes and deletes them.

Kubeflow Pipelines calls them recurring runs. Its API cannot change one (backend/api/v2beta1/recurring_run.proto has
Create, Get, List, Enable, Disable and Delete), so a changed schedule is a new one that replaces the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from miniml.kubeflow.runs import of_pipeline, the_only_one
from miniml.kubeflow.submission import Server, SubmissionError, Version

if TYPE_CHECKING:
    import kfp

_PAGE = 100


@dataclass(frozen=True)
class Schedule:
    """A schedule that starts runs of a pipeline."""

    schedule_id: str
    name: str
    cron: str
    """The cron expression, with a field for seconds; empty for a schedule with an interval."""
    interval: int
    """Seconds between two runs; 0 for a schedule with a cron expression."""
    on: bool
    """Whether the schedule starts runs; a paused one does not."""
    created_at: datetime | None
    arguments: dict[str, Any]
    """The arguments of its runs, as the pipeline takes them."""
    service_account: str
    recorded: Any
    """The server's own record (kfp_server_api's V2beta1RecurringRun), which a changed schedule copies."""

    def when(self) -> str:
        """Returns the cron expression or the interval, for a table."""
        return self.cron or (f"every {self.interval} s" if self.interval else "")


@dataclass(frozen=True)
class Change:
    """The changes to a schedule; what is None stays as it is."""

    cron: str | None = None
    arguments: dict[str, Any] | None = None
    """All arguments of its runs, changed or not."""
    version: Version | None = None
    service_account: str | None = None


def schedules_of(server: Server, pipeline: str) -> Iterator[Schedule]:
    """Yields the schedules of a pipeline, newest first.

    Raises:
        SubmissionError: The server does not answer, or its list has no end.
    """
    for one in of_pipeline(server, pipeline, _page_of_schedules, "recurring_runs"):
        yield _read(one)


def find_schedule(server: Server, pipeline: str, given: str) -> Schedule:
    """Finds a schedule.

    Args:
        server: The server.
        pipeline: The pipeline's name.
        given: The schedule's name, or the beginning of its id.

    Args:
        server: The server of Kubeflow Pipelines.
        pipeline: The name of the pipeline.
        given: The name of the schedule, or the beginning of its id.

    Raises:
        SubmissionError: Several schedules match, or none.
    """
    every = list(schedules_of(server, pipeline))
    found = [one for one in every if one.name == given] or [
        one for one in every if given and one.schedule_id.startswith(given)
    ]
    if not found:
        names = ", ".join(sorted({repr(one.name) for one in every})) or "none"
        raise SubmissionError(f"{server.host} has no schedule {given!r} of {pipeline}. There are: {names}.")
    only = the_only_one([(one.schedule_id, one.name) for one in found], given, "schedules")
    return next(one for one in found if one.schedule_id == only)


def pause(server: Server, schedule: Schedule) -> None:
    """Pauses a schedule: it starts no runs until it is resumed."""
    server.ask(lambda client: client.disable_recurring_run(schedule.schedule_id))


def resume(server: Server, schedule: Schedule) -> None:
    """Resumes a paused schedule; runs that it missed are not made up for."""
    server.ask(lambda client: client.enable_recurring_run(schedule.schedule_id))


def delete(server: Server, schedule: Schedule) -> None:
    """Deletes a schedule; the runs that it has started stay."""
    server.ask_once(lambda client: client.delete_recurring_run(schedule.schedule_id))


def replace(server: Server, old: Schedule, change: Change) -> str:
    """Creates a changed schedule and then deletes the old one, so that there is always one. A paused one stays paused.

    Args:
        server: The server.
        old: The schedule to change.
        change: The changes.

    Returns:
        The id of the new schedule.

    Raises:
        SubmissionError: The server refuses; the message says so where both schedules exist now.
    """
    cron = change.cron or old.cron
    reference, trigger = old.recorded.pipeline_version_reference, old.recorded.trigger
    times = trigger.cron_schedule or trigger.periodic_schedule
    made = server.ask_once(
        lambda client: client.create_recurring_run(
            old.recorded.experiment_id,
            old.name,
            description=old.recorded.description,
            start_time=times.start_time,
            end_time=times.end_time,
            cron_expression=cron or None,
            interval_second=None if cron else old.interval,
            max_concurrency=int(old.recorded.max_concurrency or 1),
            no_catchup=old.recorded.no_catchup,
            params=old.arguments if change.arguments is None else change.arguments,
            pipeline_id=reference.pipeline_id,
            version_id=change.version.version_id if change.version else reference.pipeline_version_id,
            pipeline_root=old.recorded.runtime_config and old.recorded.runtime_config.pipeline_root,
            enabled=old.on,
            service_account=change.service_account or old.service_account,
        )
    )
    new_id = str(made.recurring_run_id)
    try:
        delete(server, old)
    except SubmissionError as error:
        raise SubmissionError(
            f"the changed schedule {new_id} is there, and the old one {old.schedule_id} still is: {error} Delete it, "
            f"or both start runs: schedules delete {old.schedule_id}"
        ) from error
    return new_id


def _page_of_schedules(client: kfp.Client, token: str) -> Any:
    return client.list_recurring_runs(page_token=token, page_size=_PAGE, sort_by="created_at desc")


def _read(one: Any) -> Schedule:
    cron = one.trigger and one.trigger.cron_schedule
    periodic = one.trigger and one.trigger.periodic_schedule
    return Schedule(
        one.recurring_run_id,
        one.display_name or "",
        str(cron.cron) if cron else "",
        int(periodic.interval_second or 0) if periodic else 0,
        one.status == "ENABLED",
        one.created_at,
        (one.runtime_config and one.runtime_config.parameters) or {},
        one.service_account or "",
        one,
    )
