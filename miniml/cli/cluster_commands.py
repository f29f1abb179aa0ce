"""Defines the commands that start runs on a cluster and follow them: submit, follow, schedule."""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import datetime
from functools import partial
from typing import Any

from miniml.cluster.inference_service import RUN
from miniml.errors import InputError
from miniml.escaping import plain, quoted
from miniml.kubeflow import runs
from miniml.kubeflow.cron import with_seconds
from miniml.kubeflow.outcome import Outcome
from miniml.kubeflow.submission import (
    EXPERIMENT,
    RefusedError,
    Server,
    SubmissionError,
    Version,
    require_reachable_from_pods,
)
from miniml.kubeflow.workflow_size import turns_that_fit
from miniml.pipeline.arguments import add_arguments, check_values, given_arguments, trials_of
from miniml.pipeline.compiled import CompiledPipeline
from miniml.pipeline.names import program_of
from miniml.resource_names import PIPELINE_ACCOUNT
from miniml.settings.arguments import as_inputs
from miniml.settings.search import SearchSettings

MAX_NAME = 128
"""The most characters of an experiment's name (KFP's backend/src/apiserver/validation/length.go), and of a run's."""
_USAGE = "%(prog)s [OPTION ...]"
_PLAIN = argparse.ArgumentDefaultsHelpFormatter


def add(commands: Any, pipeline: CompiledPipeline) -> None:
    """Adds these commands to a parser.

    Args:
        commands: What the parser's `add_subparsers` returned.
        pipeline: The pipeline that the commands run.
    """
    submitting = commands.add_parser(
        "submit",
        help="run the pipeline on a cluster, and follow the run",
        usage=_USAGE,
        formatter_class=_PLAIN,
    )
    add_server(submitting)
    _add_run_options(submitting)
    _add_follow_options(submitting)
    submitting.add_argument(
        "--wait", action=argparse.BooleanOptionalAction, default=True, help="follow the run"
    )
    add_arguments(submitting, pipeline)
    submitting.set_defaults(command=partial(_submit, pipeline))

    following = commands.add_parser("follow", help="follow a run that was submitted", formatter_class=_PLAIN)
    following.add_argument("run_id", metavar="RUN", help=runs.HELP)
    add_server(following)
    _add_follow_options(following)
    following.set_defaults(command=partial(_follow, pipeline))

    scheduling = commands.add_parser(
        "schedule", help="run the pipeline again and again", usage=_USAGE, formatter_class=_PLAIN
    )
    add_server(scheduling)
    _add_run_options(scheduling)
    scheduling.add_argument(
        "--cron",
        required=True,
        metavar="'0 3 * * 1'",
        help="minute, hour, day of month, month, day of week (UTC)",
    )
    add_arguments(scheduling, pipeline)
    scheduling.set_defaults(command=partial(_schedule, pipeline))


def add_server(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Adds the option with the address of Kubeflow Pipelines; `again` says that the parent parser has it as well."""
    default = argparse.SUPPRESS if again else os.environ.get("KFP_HOST", "")
    parser.add_argument("--host", default=default, help="the address of Kubeflow Pipelines, or KFP_HOST")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", default="", help="the name of the run; without it, of the service and the time"
    )
    parser.add_argument("--experiment", default=EXPERIMENT, help="the experiment to keep the run in")
    parser.add_argument(
        "--pipeline-account", default=PIPELINE_ACCOUNT, help="the service account of the steps"
    )


def _add_follow_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=float, default=24 * 3600.0, help="the most seconds to follow the run"
    )
    parser.add_argument(
        "--poll-interval", type=float, default=5.0, help="seconds between two requests for the run's state"
    )


def _prepare(
    pipeline: CompiledPipeline, options: argparse.Namespace
) -> tuple[Server, Version, dict[str, Any], str]:
    arguments = given_arguments(pipeline, options)
    _check_names(options)
    check_values(arguments)
    require_reachable_from_pods(arguments)
    _warn_of_too_many_trials(pipeline, arguments)
    server = Server.connect(options.host)
    version = server.upload(pipeline)
    print(f"pipeline {pipeline.name}, version {version.name}", flush=True)
    name = options.name or f"{arguments['service_name']} {datetime.now():%Y-%m-%d %H:%M:%S}"
    return server, version, as_inputs(arguments), name


def _warn_of_too_many_trials(pipeline: CompiledPipeline, arguments: dict[str, Any]) -> None:
    """Warns of a search so large that Kubeflow's own page stops updating (see `miniml.kubeflow.workflow_size`)."""
    trials = len(trials_of(arguments))
    if trials <= SearchSettings().trials:  # The default always fits.
        return
    shown = turns_that_fit(pipeline.text, as_inputs(arguments))
    if trials > shown:
        print(
            f"note: with {trials} trials Kubeflow's own page stops showing states at about trial {shown}; `follow` "
            f"goes on showing them",
            flush=True,
        )


def _check_names(options: argparse.Namespace) -> None:
    """Checks the names against the rules of Kubeflow Pipelines and Kubernetes.

    Raises:
        InputError: A name breaks the rules; the message names the option, its value and the rule.
    """
    for option, value in (("--name", options.name or "unset"), ("--experiment", options.experiment)):
        if not value.strip() or not value.isprintable() or len(value) > MAX_NAME:
            raise InputError(
                f"{option} {quoted(value)} is no name. Give 1 to {MAX_NAME} printing characters, not only blanks."
            )
    account = options.pipeline_account
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", account):
        raise InputError(
            f"--pipeline-account {quoted(account)} cannot name a service account: lower-case letters, digits and "
            f"hyphens. The one that manifests/ installs is {PIPELINE_ACCOUNT}."
        )


def _submit(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    server, version, arguments, name = _prepare(pipeline, options)
    run_id = server.start(
        version,
        arguments,
        name=name,
        service_account=options.pipeline_account,
        experiment_name=options.experiment,
    )
    print(f"run {name}: {server.address(run_id)}", flush=True)
    if options.wait:
        _watch(server, pipeline, run_id, version.stages, options)


def _follow(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    server = Server.connect(options.host)
    run_id = runs.find_run(server, pipeline.name, options.run_id)
    _watch(server, pipeline, run_id, pipeline.stages, options)


def _watch(
    server: Server, pipeline: CompiledPipeline, run_id: str, stages: list[str], options: argparse.Namespace
) -> None:
    def show(line: str) -> None:
        print(plain(line), flush=True)

    command = f"{program_of(pipeline)} follow {run_id} --host {server.host}"
    try:
        outcome = server.follow(
            run_id, stages, timeout=options.timeout, poll_interval=options.poll_interval, show=show
        )
    except KeyboardInterrupt:
        print(f"\nstopped following; the run goes on. Again: {command}", file=sys.stderr)
        raise SystemExit(130) from None
    except RefusedError:  # There is nothing to follow.
        raise
    except SubmissionError as error:
        raise SubmissionError(f"{error}\nThe run may go on. To follow it again: {command}") from error
    if outcome.state != "SUCCEEDED":
        raise SubmissionError(server.explanation(outcome))
    show(f"succeeded: {_deployment(outcome)}")


def _deployment(outcome: Outcome) -> str:
    match outcome.deployment:
        case "deployed":
            return "deployed"
        case "rendered":
            return "rendered, not deployed (a dry run)"
        case "rejected":
            return "rejected by the gate, nothing was deployed"
    return (
        f"whether the model was deployed is unknown: Kubeflow Pipelines does not say how deploy ended. The service is "
        f"this run's if it is listed by: kubectl get inferenceservices -A -l {RUN}={outcome.run.run_id}"
    )


def _schedule(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    cron = with_seconds(options.cron)  # Before anything is sent.
    server, version, arguments, name = _prepare(pipeline, options)
    schedule = server.schedule(
        version,
        arguments,
        name=name,
        service_account=options.pipeline_account,
        cron=cron,
        experiment_name=options.experiment,
    )
    times = f"{cron!r}, with its field for seconds" if cron != options.cron else repr(cron)
    print(f"scheduled {name} at {times}: {server.schedule_address(schedule)}")
