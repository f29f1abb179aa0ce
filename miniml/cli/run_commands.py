"""Defines the commands that manage runs on a cluster: runs, logs, cancel, schedules."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

from miniml.cli.cluster_commands import add_server
from miniml.errors import InputError
from miniml.escaping import clipped, plain, printable, quoted
from miniml.kubeflow import runs, schedules
from miniml.kubeflow.cron import with_seconds
from miniml.kubeflow.run_state import RunState
from miniml.kubeflow.schedules import Change, Schedule
from miniml.kubeflow.submission import Server, SubmissionError, require_reachable_from_pods
from miniml.pipeline.arguments import add_arguments, check_values, defaults, preset_of
from miniml.pipeline.compiled import CompiledPipeline
from miniml.pipeline.names import program_of
from miniml.pipeline.presets import PRESETS
from miniml.settings.arguments import OPTIONS, SETTINGS, as_inputs, flat

_MAX_CELL_LENGTH = 44
_SCHEDULE = "the schedule's name, or the beginning of its id"


def add(commands: Any, pipeline: CompiledPipeline) -> None:
    """Adds these commands to a parser.

    Args:
        commands: What the parser's `add_subparsers` returned.
        pipeline: The pipeline whose runs they manage.
    """
    listing = commands.add_parser("runs", help="list the runs on a cluster, newest first")
    add_server(listing)
    listing.add_argument("--limit", type=_count, default=20, help="the most runs to list (20)")
    listing.add_argument("--json", action="store_true", help="print JSON, for programs")
    listing.set_defaults(command=partial(_list_runs, pipeline))

    reading = commands.add_parser("logs", help="print what a step of a run printed")
    reading.add_argument("run_id", metavar="RUN", help=runs.HELP)
    reading.add_argument(
        "stage", nargs="?", help="the stage; without it, the one that failed, or the last that began"
    )
    reading.add_argument("--turn", type=_count, default=1, help="the number of the turn of a stage in a loop")
    add_server(reading)
    reading.set_defaults(command=partial(_logs, pipeline))

    cancelling = commands.add_parser("cancel", help="end a run on a cluster")
    cancelling.add_argument("run_id", metavar="RUN", help=runs.HELP)
    add_server(cancelling)
    cancelling.set_defaults(command=partial(_cancel, pipeline))

    scheduled = commands.add_parser("schedules", help="list, change, pause, resume or delete schedules")
    _add_actions(scheduled.add_subparsers(metavar="ACTION", help="list, if none is given"), pipeline)
    _as_list(scheduled, pipeline)


def _add_actions(actions: Any, pipeline: CompiledPipeline) -> None:
    _as_list(actions.add_parser("list", help="list all schedules, newest first"), pipeline, again=True)

    changing = actions.add_parser(
        "change",
        help="start runs at other times, or with other arguments: only what is given here changes",
        usage="%(prog)s [OPTION ...] SCHEDULE",
    )
    changing.add_argument("which", metavar="SCHEDULE", help=_SCHEDULE)
    add_server(changing, again=True)
    changing.add_argument("--cron", help="minute, hour, day of month, month, day of week (UTC)")
    changing.add_argument("--pipeline-account", help="the service account of the steps")
    add_arguments(changing, pipeline)
    changing.set_defaults(command=partial(_change, pipeline))

    for name, does, done, act in (
        ("pause", "start no runs until it is resumed", "paused", schedules.pause),
        ("resume", "start runs again", "resumed", schedules.resume),
        ("delete", "start no runs any more; those it has started stay", "deleted", schedules.delete),
    ):
        acting = actions.add_parser(name, help=does)
        acting.add_argument("which", metavar="SCHEDULE", help=_SCHEDULE)
        add_server(acting, again=True)
        acting.set_defaults(command=partial(_act, pipeline), act=act, done=done)


def _as_list(parser: argparse.ArgumentParser, pipeline: CompiledPipeline, *, again: bool = False) -> None:
    add_server(parser, again=again)
    default = argparse.SUPPRESS if again else False
    parser.add_argument("--json", action="store_true", default=default, help="print JSON, for programs")
    parser.set_defaults(command=partial(_list_schedules, pipeline))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def _list_runs(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    listed = list(islice(runs.runs_of(Server.connect(options.host), pipeline.name), options.limit))
    rows = [
        {
            "id": run.run_id,
            "state": run.state.lower(),
            "created": run.created_at,
            "service": run.service,
            "name": run.name,
        }
        for run in listed
    ]
    _show(rows, options, f"no run of {pipeline.name} yet; start one: {program_of(pipeline)} submit")


def _logs(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    stages = pipeline.stages
    stage, turn = options.stage, options.turn
    if stage and stage not in stages:
        raise InputError(f"{pipeline.name} has no stage {quoted(stage)}; it has: {', '.join(stages)}.")
    server = Server.connect(options.host)
    run_id = runs.find_run(server, pipeline.name, options.run_id)
    if not stage:
        stage, turn = _step_to_show(server.look(run_id, stages))
    print(plain(server.step_log(run_id, stage, turn).rstrip()))


def _step_to_show(run: RunState) -> tuple[str, int]:
    """Returns the stage that failed, or else the last one that began, and the number of its turn.

    Raises:
        SubmissionError: No stage has begun.
    """
    begun = [turn for turn in run.stages.turns if turn.attempts]
    chosen = [turn for turn in begun if turn.state == "FAILED"][:1] or begun[-1:]
    if not chosen:
        raise SubmissionError(f"no step of run {run.run_id} has begun.")
    return chosen[0].stage, chosen[0].number


def _cancel(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    server = Server.connect(options.host)
    run_id = runs.find_run(server, pipeline.name, options.run_id)
    runs.cancel(server, run_id)
    print(f"cancelling run {run_id}; Kubeflow Pipelines will say that it FAILED: {server.address(run_id)}")


def _list_schedules(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    rows = [
        {
            "id": one.schedule_id,
            "state": "on" if one.on else "paused",
            "when": one.when(),
            "created": one.created_at,
            "service": str(one.arguments.get("service_name", "")),
            "name": one.name,
        }
        for one in schedules.schedules_of(Server.connect(options.host), pipeline.name)
    ]
    _show(
        rows, options, f"no schedule of {pipeline.name}; make one: {program_of(pipeline)} schedule --cron …"
    )


def _act(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    server = Server.connect(options.host)
    schedule = schedules.find_schedule(server, pipeline.name, options.which)
    act: Callable[[Server, Schedule], None] = options.act
    act(server, schedule)
    print(plain(f"{options.done} {schedule.name!r} ({schedule.schedule_id})"))


def _change(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    preset = preset_of(options)
    given = (dict(PRESETS[preset].arguments) if preset else {}) | {
        name: getattr(options, name) for name in defaults(pipeline) if hasattr(options, name)
    }
    cron = with_seconds(options.cron) if options.cron is not None else None
    if not (given or cron or options.pipeline_account):
        raise InputError(
            "nothing is to be changed. Give --cron, --pipeline-account, or arguments of the pipeline."
        )
    server = Server.connect(options.host)
    old = schedules.find_schedule(server, pipeline.name, options.which)
    change = Change(cron, service_account=options.pipeline_account)
    if given:
        arguments = _changed_arguments(pipeline, old, given)
        # The arguments were checked against this version's pipeline, so the schedule runs this version.
        change = Change(cron, arguments, server.upload(pipeline), options.pipeline_account)
    new_id = schedules.replace(server, old, change)
    print(
        plain(
            f"changed {old.name!r}: {new_id} takes the place of {old.schedule_id}, which is deleted "
            f"(Kubeflow Pipelines changes none): {server.schedule_address(new_id)}"
        )
    )


def _changed_arguments(pipeline: CompiledPipeline, old: Schedule, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a schedule's runs with the given ones replaced, checked, as the pipeline takes them.

    Raises:
        InputError: An argument cannot be used, or this version's pipeline does not have it any more.
    """
    known, before = defaults(pipeline), dict(old.arguments)
    before |= before.pop(OPTIONS, None) or {}
    if gone := sorted(before.keys() - known.keys()):
        raise InputError(
            f"the schedule {old.name!r} gives {', '.join(gone)}, which this version's pipeline has no more. Make a new "
            f"one ({program_of(pipeline)} schedule), and then delete it: schedules delete {old.schedule_id}"
        )
    arguments = {**known, **before, **given}
    check_values(arguments)
    require_reachable_from_pods(arguments)
    return as_inputs(flat(arguments, SETTINGS))


def _show(rows: list[dict[str, Any]], options: argparse.Namespace, otherwise: str) -> None:
    """Prints rows as a table or as JSON; prints `otherwise` in place of an empty table."""
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
    elif not rows:
        print(otherwise)
    else:
        table = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        for row in table:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: str | datetime | None) -> str:
    """Returns a text, or for a time how long ago it was, in one unit."""
    if not isinstance(value, datetime):
        return clipped(printable(value or ""), _MAX_CELL_LENGTH)
    minutes = max(0, int((datetime.now(UTC) - value).total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d ago"
