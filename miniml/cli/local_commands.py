"""Defines the commands that work on this machine: run, serve."""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from miniml.cli import predict
from miniml.escaping import clipped, plain
from miniml.local import job, runner
from miniml.local.ask import describe_answer, serving_command
from miniml.local.children import ended_with_us
from miniml.pipeline.arguments import add_arguments, given_arguments, preset_of
from miniml.pipeline.compiled import CompiledPipeline
from miniml.pipeline.presets import PRESETS
from miniml.ports import HTTP_PORT
from miniml.progress import duration


def add(commands: Any, pipeline: CompiledPipeline) -> None:
    """Adds these commands to a parser.

    Args:
        commands: What the parser's `add_subparsers` returned.
        pipeline: The pipeline that `run` runs.
    """
    add_run(commands, pipeline)
    serving = commands.add_parser(
        "serve",
        help="serve the newest model of a local run, or another folder's, until Ctrl-C",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    serving.add_argument(
        "--port", type=int, default=HTTP_PORT, help="the port for HTTP; gRPC has the next one"
    )
    serving.add_argument("--outputs", type=Path, default=runner.OUTPUTS, help="where runs are kept")
    serving.add_argument(
        "--model", type=Path, help="the model folder; without it, the newest run's", default=argparse.SUPPRESS
    )
    serving.add_argument(
        "--service-name",
        help=f"the name to serve the model under; without it, that of its run, or {predict.DEFAULT_NAME}",
        default=argparse.SUPPRESS,
    )
    serving.set_defaults(command=_serve)


def add_run(commands: Any, pipeline: CompiledPipeline) -> None:
    """Adds the command `run` alone, as `add` does."""
    running = commands.add_parser(
        "run",
        help="run the pipeline on this machine, serve the model for a moment and ask it",
        usage="%(prog)s [OPTION ...]",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    running.add_argument(
        "--ask",
        action="append",
        metavar="TEXT",
        help="a text to ask the served model",
        default=argparse.SUPPRESS,
    )
    running.add_argument(
        "--runner",
        choices=job.RUNNERS,
        default=job.RUNNERS[0],
        help="where the stages run: here, or in containers here",
    )
    running.add_argument("--outputs", type=Path, default=runner.OUTPUTS, help="where runs are kept")
    running.add_argument(
        "--default-preset",
        default=argparse.SUPPRESS,
        metavar="PRESET",
        help="the preset where neither --preset nor --dataset-id is given",
    )
    add_arguments(running, pipeline)
    running.set_defaults(command=partial(_run, pipeline))


def _run(pipeline: CompiledPipeline, options: argparse.Namespace) -> None:
    arguments, preset = given_arguments(pipeline, options), preset_of(options)
    questions = getattr(options, "ask", []) or (PRESETS[preset].questions if preset else [])
    start = f"preset {preset}, " if preset else ""
    print(plain(f"miniml: {start}{arguments['model_id']} on {arguments['dataset_id']}"), flush=True)
    with ended_with_us():
        finished = job.run(
            pipeline, arguments, runner=options.runner, outputs=options.outputs, questions=questions
        )
    _print_summary(finished.summary, finished.folder)


def _print_summary(summary: dict[str, Any], latest: Path) -> None:
    for answer in summary["predictions"]:
        text = clipped(answer["text"], 90)
        print(plain(f'        "{text}"\n          -> {describe_answer(answer)}'))
    measure = summary["measure"]
    low, high = summary[f"{measure}_interval"]
    search = latest / "search_report.html"
    reasons = plain("\n".join(f"  {reason}" for reason in summary["reasons"]))
    manifest = latest / "inference_service.yaml" if summary["manifest"] else "none: the model is not deployed"
    print(
        f"\n{summary['verdict']}:\n{reasons}\n"
        f"{measure.replace('_', ' '):<10} {summary[measure]:.3f} (95 % interval {low:.3f} to {high:.3f}, "
        f"{summary['test_rows']:,} rows)\n"
        f"report     {latest / 'report.html'}\n"
        + (f"search     {search}\n" if search.exists() else "")
        + f"model      {latest / 'model'}\n"
        f"manifest   {manifest}\n"
        f"summary    {latest / 'summary.json'}\n"
        f"in {duration(summary['seconds']['total'])}"
    )


def _serve(options: argparse.Namespace) -> None:
    """Replaces this process by the predictor, so that Ctrl-C and signals reach it directly."""
    model, name = _model_and_name(options)
    command = [*serving_command(model, name, options.port), f"--grpc_port={options.port + 1}"]
    options.outputs.mkdir(parents=True, exist_ok=True)
    predict.LocalService(f"http://127.0.0.1:{options.port}", name, os.getpid()).write(options.outputs)
    os.execv(command[0], command)  # noqa: S606 - the command is our own


def _model_and_name(options: argparse.Namespace) -> tuple[Path, str]:
    """Returns the model's folder and the name under which it is served."""
    if hasattr(options, "model"):
        return options.model, getattr(options, "service_name", predict.DEFAULT_NAME)
    latest = runner.latest(options.outputs)
    name = json.loads((latest / "summary.json").read_text(encoding="utf-8"))["service_name"]
    return latest / "model", getattr(options, "service_name", name)
